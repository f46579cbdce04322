"""``isthmus leakage`` from a model and samples to figures, and ``isthmus plan --leakage`` from these to a plan."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper

from isthmus import documents
from isthmus.cli.leakage import text
from isthmus.cli.main import main
from isthmus.errors import InvalidCase
from isthmus.model.leakage import LeakageReport
from isthmus.model.policy import DataPolicy
from isthmus.model.slicing import SlicePlan
from isthmus.workflows.measure_leakage import merged
from isthmus.workflows.read_samples import from_dataset, from_file

POLICY = {"zones": ["home"], "may_leave": "activations", "max_leakage_r2": 0.5}
JOB = {
    "evaluation": {
        "inputs": {"path": "test/rows.csv", "decode": {"format": "csv", "columns": [0, 4]}},
    },
    "preprocessing": [{"op": "affine", "scale": 0.5}, {"op": "reshape", "shape": [2, 2]}],
}


def network(path: Path) -> Path:
    """Four numbers, of which ``wide`` tells all and ``narrow`` one direction in four."""
    random = np.random.default_rng(0)
    weights = {
        "w": random.standard_normal((4, 32)).astype(np.float32),
        "v": random.standard_normal((32, 1)).astype(np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["wide"]),
        helper.make_node("MatMul", ["wide", "v"], ["narrow"]),
        helper.make_node("Sigmoid", ["narrow"], ["y"]),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size])
        for name, size in (("x", 4), ("y", 1))
    ]
    given = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], given)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def device(name: str, zone: str, other: str, pace: float) -> dict[str, Any]:
    return {
        "id": name,
        "kind": "edge",
        "zone": zone,
        "arch": "x86_64",
        "cores": 1,
        "memory_bytes": 1 << 30,
        "disk_free_bytes": 0,
        "usage": ["inference"],
        "rates": {"*": {"overhead_seconds": pace}},
        "links": [{"to": other, "bytes_per_second": 1e6}],
    }


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    network(tmp_path / "net.onnx")
    np.save(tmp_path / "samples.npy", np.random.default_rng(1).standard_normal((1250, 4)).astype(np.float32))
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(POLICY))
    (tmp_path / "devices.json").write_text(
        json.dumps([device("here", "home", "there", 1.0), device("there", "aws", "here", 0.01)])
    )
    return tmp_path


def figures(path: Path, model: Path, **cuts: float) -> Path:
    found = {
        "schema": "isthmus/leakage/1",
        "model": model.name,
        "model_digest": documents.sha256(model.read_bytes()),
        "samples_digest": "5" * 64,
        "fit_samples": 1000,
        "held_out_samples": 250,
        "seed": 0,
        "cuts": [
            {
                "tensors": name.split("__"),
                "r2": r2,
                "decoder": "rbf",
                "tried": {"rbf": r2, "ridge": r2 - 1},
                "elements": 3,
            }
            for name, r2 in cuts.items()
        ],
    }
    path.write_text(json.dumps(found))
    return path


PLAN = ["plan", "net.onnx", "--devices", "devices.json", "--policy", "policy.yaml"]


def planned(capsys: pytest.CaptureFixture[str], *more: str) -> SlicePlan:
    assert main([*PLAN, "--json", *more]) == 0
    return documents.decode(SlicePlan, capsys.readouterr().out, "what was printed")


@pytest.mark.slow
def test_from_samples_to_a_plan(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["leakage", "net.onnx", "--samples", "samples.npy", "--policy", "policy.yaml"]
    assert main([*arguments, "-o", "leakage.json"]) == 0
    captured = capsys.readouterr()
    rows = [line.split() for line in captured.out.splitlines()]
    assert rows[3] == ["TENSORS", "ELEMENTS", "R2", "DECODER", "MAY", "LEAVE"]
    assert [(row[0], row[1], row[-1]) for row in rows[4:]] == [("wide", "32", "no"), ("narrow", "1", "yes")]
    assert "2 of 2: wide, 32 elements" in captured.err
    plan = planned(capsys, "--leakage", "leakage.json")
    (sent,) = plan.transfers
    assert sent.tensors == ("narrow",)
    assert sent.leakage_r2 is not None
    assert 0.1 < sent.leakage_r2 < 0.5


def test_a_plan_keeps_to_the_figures_and_shows_them(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures(folder / "low.json", folder / "net.onnx", wide=0.4, narrow=0.2)
    figures(folder / "high.json", folder / "net.onnx", wide=0.5, narrow=0.2)
    low = planned(capsys, "--leakage", "low.json", "-o", "low-plan.json", "--svg", "low.svg")
    assert [(t.tensors, t.leakage_r2) for t in low.transfers] == [(("wide",), 0.4)]
    assert "R² 0.400" in (folder / "low.svg").read_text()
    assert main(["plan", "show", "low-plan.json"]) == 0
    assert " 0.400" in capsys.readouterr().out
    # Of a cut that two files measured, the larger figure counts.
    for more in (["high.json"], ["low.json", "high.json"]):
        high = planned(capsys, "--leakage", *more, "--current", "low-plan.json", "--threshold", "9")
        assert [(t.tensors, t.leakage_r2) for t in high.transfers] == [(("narrow",), 0.2)]


def test_without_figures_nothing_leaves_and_what_measures_them_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(PLAN) == 0
    captured = capsys.readouterr()
    assert captured.err.startswith("no leakage was measured, so that no activation may leave: measure with ")
    assert "isthmus leakage MODEL --samples FILE -o leakage.json" in captured.err
    assert "nothing is transferred" in captured.out
    assert "2 were not measured (`isthmus leakage`)" in captured.out
    assert planned(capsys).transfers == ()


def test_where_it_cannot_be_the_limit_that_would_do_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures(folder / "all.json", folder / "net.onnx", wide=0.95, narrow=0.7)
    devices = json.loads((folder / "devices.json").read_text())
    devices[0]["unsupported"] = ["Sigmoid"]
    (folder / "devices.json").write_text(json.dumps(devices))
    assert main([*PLAN, "--leakage", "all.json"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("isthmus: no plan keeps what leaves home below R² 0.5")
    assert "narrow would reach aws (there)" in said
    assert "R² 0.700; a limit of 0.701 would make a plan possible" in said


def test_the_table_names_tensors_figures_and_decoders(tmp_path: Path) -> None:
    model = network(tmp_path / "net.onnx")
    path = figures(tmp_path / "it.json", model, wide=0.9, wide__narrow=0.92, narrow=0.25)
    report = documents.decode(LeakageReport, path.read_bytes(), "it")
    limited = text(report, DataPolicy(zones=("home",), may_leave="activations", max_leakage_r2=0.5))
    assert limited.splitlines()[3:] == [
        "TENSORS       ELEMENTS     R2  DECODER  MAY LEAVE",
        "wide                 3  0.900  rbf      no",
        "wide, narrow         3  0.920  rbf      no",
        "narrow               3  0.250  rbf      yes",
    ]
    assert "MAY LEAVE" not in text(report, DataPolicy())
    assert limited.startswith("net.onnx: 3 cuts, decoders fitted on 1,000 samples and judged on 250 others")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["net.onnx", "--samples", "gone.npy"], "gone.npy cannot be read as an array"),
        (["net.onnx", "--samples", "gone.npz"], "gone.npz cannot be read"),
        (["net.onnx", "--samples", "net.onnx"], "net.onnx is no .npy array, as numpy.save writes it"),
        (["net.onnx", "--samples", "."], "is a folder; name a file, or with a dataset's folder its --job"),
        (["net.onnx", "--samples", ".", "--job", "gone.yaml"], "the job gone.yaml cannot be read"),
        (["net.onnx", "--samples", ".", "--job", "policy.yaml"], "needs a job with `evaluation.inputs`"),
        (["net.onnx", "--samples", "few.npy"], "needs 1200 samples"),
        (["gone.onnx", "--samples", "samples.npy"], "gone.onnx cannot be read"),
        (
            ["net.onnx", "--samples", "samples.npy", "--cut", "wide,,narrow"],
            "--cut needs the names of tensors",
        ),
        (["net.onnx", "--samples", "samples.npy", "--cut", "wide,moon"], "net.onnx has no tensor moon"),
        (["net.onnx", "--samples", "samples.npy", "--seed", "-1"], "needs a --seed of at least 0"),
        (
            ["net.onnx", "--samples", "samples.npy", "--policy", "devices.json"],
            "the policy devices.json cannot",
        ),
        (["net.onnx", "--samples", "samples.npy", "--dimension", "n"], "--dimension needs NAME=N"),
    ],
)
def test_a_mistake_of_measuring_is_one_sentence(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    np.save(folder / "few.npy", np.zeros((3, 4), np.float32))
    assert main(["leakage", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert said in line


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "the leakage it.json cannot be read: No such file"),
        (b"[]", "the leakage it.json cannot be used"),
        (b" " * (16 * 2**20 + 1), "it.json is larger than 16.0 MiB"),
        ({"model_digest": "0" * 64}, "was measured, and the plan is for net"),
        ({"fit_samples": 999}, "needs leakage of decoders that were fitted on 1000 samples"),
        ({"r2": 0.1}, "of wide the figure 0.1 is not that of its best decoder"),
        ({"decoder": "ridge"}, "of wide the figure 0.4 is not that of its best decoder"),
        ({"tensors": []}, "of a cut without tensors the figure"),
        ({"tried": {}}, "of wide the figure"),
    ],
)
def test_figures_that_say_nothing_of_the_network_are_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], content: Any, said: str
) -> None:
    path = folder / "it.json"
    if isinstance(content, dict):
        value = json.loads(figures(path, folder / "net.onnx", wide=0.4).read_text())
        value |= {name: content[name] for name in content if name in value}
        value["cuts"][0] |= {name: content[name] for name in content if name in value["cuts"][0]}
        path.write_text(json.dumps(value))
    elif content is not None:
        path.write_bytes(content)
    assert main([*PLAN, "--leakage", "it.json"]) == 2
    assert said in capsys.readouterr().err


def test_figures_of_two_models_are_not_one_report(tmp_path: Path) -> None:
    model = network(tmp_path / "net.onnx")
    one = documents.decode(LeakageReport, figures(tmp_path / "1", model, wide=0.4).read_bytes(), "one")
    model.write_bytes(b"another")
    two = documents.decode(LeakageReport, figures(tmp_path / "2", model, wide=0.4).read_bytes(), "two")
    with pytest.raises(InvalidCase, match="needs the leakage of one model"):
        merged([one, two])
    assert merged([one, one]) == one


def test_samples_are_read_from_npy_npz_and_a_dataset(tmp_path: Path) -> None:
    rows = np.arange(20, dtype=np.float32).reshape(4, 5)
    np.save(tmp_path / "rows.npy", rows)
    np.savez(tmp_path / "rows.npz", rows)
    assert (from_file(tmp_path / "rows.npy") == rows).all()
    assert (from_file(tmp_path / "rows.npz") == rows).all()
    for channel in ("train", "test"):
        (tmp_path / channel).mkdir()
        np.savetxt(tmp_path / channel / "rows.csv", rows if channel == "train" else -rows, delimiter=",")
    expected = np.concatenate([-rows, rows])[:, :4].reshape(8, 2, 2) / 2
    assert (from_dataset(tmp_path, JOB) == expected).all()
    assert (from_dataset(tmp_path / "train/rows.csv", JOB) == expected[4:]).all()


def test_samples_that_are_none_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(network(tmp_path / "net.onnx"))
    np.savez(tmp_path / "two.npz", a=np.zeros((2, 2)), b=np.zeros((2, 2)))
    np.savez(tmp_path / "words.npz", np.array([["a"]]))
    np.save(tmp_path / "flat.npy", np.zeros(3))
    with zipfile.ZipFile(tmp_path / "claims.npz", "w") as archive:
        header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000000), }"
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + bytes((len(header), 0)) + header.encode())
    for name, said in (
        ("two.npz", "needs one array in"),
        ("words.npz", "an array of numbers is needed"),
        (
            "flat.npy",
            "must hold one array of numbers, [samples, ...], as numpy.save writes it; it holds float64",
        ),
        ("claims.npz", "4000000000081 bytes, not 81"),
    ):
        assert main(["leakage", model, "--samples", str(tmp_path / name)]) == 2
        assert said in capsys.readouterr().err
