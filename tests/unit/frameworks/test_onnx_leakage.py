"""Leakage measured on scikit-learn's digits and on noise: it finds what is there, and nothing where nothing is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from leakage_networks import classifier, digits, images, odd_ones, write
from onnx import TensorProto, helper
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics import r2_score

from isthmus import documents
from isthmus.errors import InvalidInput, InvalidModel
from isthmus.frameworks.onnx import decoders
from isthmus.frameworks.onnx.decoders import Rows
from isthmus.frameworks.onnx.leakage import measure
from isthmus.frameworks.onnx.local_decoder import places
from isthmus.model.leakage import LeakageReport
from isthmus.workflows.measure_leakage import measure_leakage, read_report

FIT = 300


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return classifier(tmp_path_factory.mktemp("leakage") / "classifier.onnx", *digits())


@pytest.fixture(scope="module")
def pixels() -> Any:
    return digits()[0]


def figures(report: LeakageReport) -> dict[tuple[str, ...], float]:
    return {cut.tensors: cut.r2 for cut in report.cuts}


def test_it_falls_with_depth(trained: Path, pixels: Any) -> None:
    names = ["x", "relu_0", "relu_1", "relu_2", "y"]
    found = measure(trained, pixels[:700], names, fit=FIT)
    values = [cut.r2 for cut in found.cuts]
    assert values[0] > 0.999
    assert values[1] > 0.9
    assert values[-1] < 0.6
    assert values == sorted(values, reverse=True)
    # A straight decoder alone would understate what is left after two ReLUs.
    middle = found.cuts[2]
    assert middle.r2 == max(middle.tried.values()) == middle.tried[middle.decoder]
    assert middle.r2 > middle.tried["ridge"] + 0.03


@pytest.mark.slow
def test_the_full_thousand(trained: Path, pixels: Any) -> None:
    found = measure(trained, pixels, ["relu_0", "logits", "y"])
    assert (found.fit_samples, found.held_out_samples) == (1000, 797)
    first, logits, probabilities = (cut.r2 for cut in found.cuts)
    assert first > 0.95
    assert first > logits + 0.1
    assert logits > probabilities + 0.1


def test_an_identity_and_a_constant(tmp_path: Path, pixels: Any) -> None:
    found = measure(odd_ones(tmp_path / "odd.onnx"), pixels[:600], fit=FIT)
    values = figures(found)
    assert values[("same",)] > 0.999
    assert values[("negative",)] > 0.999
    assert -0.05 < values[("still",)] <= 0
    assert -0.05 < values[("one",)] <= 0


def test_inputs_in_another_order_cannot_be_rebuilt(pixels: Any) -> None:
    """The activations of other samples: the check finds nothing, so it is no formality."""
    shuffled = np.random.default_rng(0).permutation(pixels[:600])
    plain, scaled = decoders.grams(pixels[:600], FIT)
    rows = Rows(FIT * 4 // 5, FIT)
    right = decoders.kernel_decoders(plain, scaled, decoders.target_gram(pixels[:600], FIT), rows)
    wrong = decoders.kernel_decoders(plain, scaled, decoders.target_gram(shuffled, FIT), rows)
    assert min(right.values()) > 0.9
    assert max(wrong.values()) < 0.01
    assert decoders.elementwise(pixels[:600], shuffled, FIT) < 0.01


def test_the_figure_is_scikit_learns(pixels: Any) -> None:
    """Ridge regression and its variance-weighted R² by inner products alone, against the plain way."""
    random = np.random.default_rng(3)
    values = np.maximum(pixels[:500] @ random.standard_normal((64, 40)), 0).astype(np.float32)
    plain, _ = decoders.grams(values, FIT)
    targets = decoders.target_gram(pixels[:500], FIT)
    mean = pixels[:FIT].mean(axis=0)
    for strength in (1e-4, 1e-1):
        model = KernelRidge(alpha=strength, kernel="precomputed")
        model.fit(plain[:FIT, :FIT], pixels[:FIT] - mean)
        guess = model.predict(plain[FIT:, :FIT]) + mean
        expected = r2_score(pixels[FIT:500], guess, multioutput="variance_weighted")
        assert decoders._r2(plain, targets, strength, FIT, 500) == pytest.approx(expected, abs=1e-5)


def test_it_is_the_same_by_seed_and_another_by_another(trained: Path, pixels: Any) -> None:
    one, again, other = (measure(trained, pixels[:600], ["relu_2"], fit=FIT, seed=s) for s in (1, 1, 2))
    assert one == again
    assert one.cuts != other.cuts
    assert one.cuts[0].r2 == pytest.approx(other.cuts[0].r2, abs=0.1)


def test_tensors_that_cross_together_are_one_cut(tmp_path: Path, pixels: Any) -> None:
    """Two halves of the image: each tells its half, both tell all."""
    nodes = [
        helper.make_node("Split", ["x"], ["low", "high"], axis=1, num_outputs=2),
        helper.make_node("Neg", ["low"], ["a"]),
        helper.make_node("Exp", ["high"], ["b"]),
        helper.make_node("Concat", ["a", "b"], ["y"], axis=1),
    ]
    model = write(tmp_path / "halves.onnx", nodes, {}, ["batch", 64], opset=18)
    found = measure(model, pixels[:600], ["a", "b", ("a", "b")], fit=FIT)
    a, b, both = (cut.r2 for cut in found.cuts)
    assert max(a, b) < 0.85
    assert both > 0.97
    assert found.cuts[2].elements == 64
    assert found.of(("b", "a")) == found.cuts[2]


def test_noise_beside_a_tensor_hides_nothing(tmp_path: Path, pixels: Any) -> None:
    """A wide tensor that tells little cannot drown one that tells all."""
    random = np.random.default_rng(0)
    weights = {"w": (random.standard_normal((64, 4000)) * 40).astype(np.float32)}
    nodes = [
        helper.make_node("Neg", ["x"], ["all"]),
        helper.make_node("MatMul", ["x", "w"], ["mixed"]),
        helper.make_node("Sin", ["mixed"], ["noise"]),
        helper.make_node("Concat", ["noise", "all"], ["y"], axis=1),
    ]
    model = write(tmp_path / "noise.onnx", nodes, weights, ["batch", 64])
    found = measure(model, pixels[:600], ["noise", ("noise", "all")], fit=FIT)
    alone, both = found.cuts
    assert alone.r2 < 0.2
    assert both.r2 > 0.999
    assert both.decoder.endswith("of all")


def test_a_cast_is_measured(trained: Path, pixels: Any) -> None:
    found = {
        c: measure(trained, pixels[:600], ["relu_0"], fit=FIT, cast=c).cuts[0]
        for c in ("", "float16", "int8")
    }
    assert [cut.cast for cut in found.values()] == ["", "float16", "int8"]
    assert found["float16"].r2 == pytest.approx(found[""].r2, abs=1e-3)
    assert found["int8"].r2 < found[""].r2
    assert found["int8"].r2 > 0.85


def test_places_find_what_a_thousand_whole_inputs_cannot(tmp_path: Path) -> None:
    """Images of noise have more directions than there are samples; a convolution still gives them away."""
    noise = np.random.default_rng(0).standard_normal((500, 3, 16, 16)).astype(np.float32)
    found = measure(images(tmp_path / "images.onnx"), noise, ["first", "second"], fit=FIT)
    first, second = found.cuts
    assert (first.decoder, second.decoder) == ("local", "local")
    assert first.tried["ridge"] < 0.5
    assert first.r2 > 0.9
    assert first.r2 > second.r2 > 0.3
    flat = measure(odd_ones(tmp_path / "odd.onnx", size=768), noise.reshape(500, 768), ["same"], fit=FIT)
    assert flat.cuts[0].tried["ridge"] < 0.6
    assert flat.cuts[0].tried["elementwise"] > 0.999


@pytest.mark.parametrize(
    ("shape", "raw", "grid"),
    [
        ((8, 4, 4), (3, 16, 16), (4, 4)),
        ((8, 5, 5), (3, 16, 16), None),
        ((8, 1, 1), (3, 16, 16), None),
        ((16, 32), (3, 16, 16), (4, 4)),  # tokens of 4 by 4 patches
        ((17, 32), (3, 16, 16), (4, 4)),  # and a class token
        ((9, 32), (9, 5), (9, 1)),  # a sequence
        ((8, 25), (3, 50), (25, 1)),  # a convolution along time
        ((64,), (64,), None),
        ((4000, 8, 8), (3, 16, 16), None),  # more features than are fitted
    ],
)
def test_places(shape: tuple[int, ...], raw: tuple[int, ...], grid: tuple[int, int] | None) -> None:
    found = places(shape, raw)
    assert (None if found is None else (found.height, found.width)) == grid
    if found is not None:
        assert found.tensor(np.zeros((2, *shape))).shape == (2, found.channels, *grid)  # type: ignore[misc]


def test_a_batch_that_is_fixed(tmp_path: Path, pixels: Any) -> None:
    open_, fixed = (
        measure(odd_ones(tmp_path / f"{b}.onnx", batch=b), pixels[:503], ["same"], fit=FIT) for b in ("n", 7)
    )
    assert fixed.cuts[0].r2 == pytest.approx(open_.cuts[0].r2, abs=1e-6)


def test_the_workflow_writes_what_it_reads(tmp_path: Path, trained: Path, pixels: Any) -> None:
    np.save(tmp_path / "samples.npy", pixels[:600])
    report = measure_leakage(trained, tmp_path / "samples.npy", [("relu_2",), ("relu_2", "logits")], fit=FIT)
    assert report.model_digest == documents.sha256(trained.read_bytes())
    assert report.samples_digest == documents.sha256(pixels[:600].tobytes())
    (tmp_path / "report.json").write_bytes(documents.encode(report))
    assert read_report(tmp_path / "report.json") == report


def test_what_cannot_be_measured_says_so(tmp_path: Path, trained: Path, pixels: Any) -> None:
    with pytest.raises(
        InvalidInput, match="needs 1200 samples, 1000 to fit a decoder on and 200 held out; there are 600"
    ):
        measure(trained, pixels[:600])
    with pytest.raises(InvalidInput, match="at least 50 samples to fit"):
        measure(trained, pixels, fit=5)
    with pytest.raises(InvalidInput, match="samples that differ"):
        measure(trained, np.ones_like(pixels))
    with pytest.raises(InvalidInput, match="finite samples"):
        measure(trained, np.where(pixels == 1, np.nan, pixels))
    with pytest.raises(InvalidInput, match=r"classifier\.onnx takes .*64.*cannot run on samples of \[32\]"):
        measure(trained, pixels[:, :32])
    with pytest.raises(
        InvalidModel, match=r"classifier\.onnx has no tensor nowhere when it runs; there are .*relu_1"
    ):
        measure(trained, pixels, ["nowhere"])
    (tmp_path / "text.npy").write_text("no array")
    with pytest.raises(InvalidInput, match=r"text\.npy is no \.npy array, as numpy\.save writes it"):
        measure_leakage(trained, tmp_path / "text.npy")


def test_inputs_that_are_looked_up_are_refused(tmp_path: Path, pixels: Any) -> None:
    """Rows of a table are found again exactly, whatever a regression says."""
    table = {"table": np.eye(17, 4, dtype=np.float32)}
    nodes = [helper.make_node("Gather", ["table", "x"], ["rows"]), helper.make_node("Neg", ["rows"], ["y"])]
    model = write(tmp_path / "table.onnx", nodes, table, ["batch", 64], dtype=TensorProto.INT64, rank=3)
    with pytest.raises(InvalidModel, match="keep the layers that read it where raw data may lie"):
        measure(model, pixels * 16)


def test_a_tensor_that_is_not_finite_or_whose_size_varies_is_named(tmp_path: Path, pixels: Any) -> None:
    nodes = [helper.make_node("Log", ["x"], ["log"]), helper.make_node("Neg", ["log"], ["y"])]
    with pytest.raises(InvalidModel, match="tensor log is not finite"):
        measure(write(tmp_path / "log.onnx", nodes, {}, ["batch", 64]), pixels[:600], ["log"], fit=FIT)
    nodes = [
        helper.make_node("NonZero", ["x"], ["where"]),
        helper.make_node("Cast", ["where"], ["places"], to=TensorProto.FLOAT),
        helper.make_node("Neg", ["places"], ["y"]),
    ]
    with pytest.raises(InvalidModel, match=r"tensor places has .* its size depends on values"):
        measure(write(tmp_path / "nz.onnx", nodes, {}, ["batch", 64]), pixels[:600], ["places"], fit=FIT)
