"""Slices as bundles and a document: served like any other model, proven, replaced whole, and refused in a sentence."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from profile_networks import residual, tied
from slicing_world import changed, order_of, plan_of
from trained_networks import attention, flags
from workflow_world import NOW, World

from isthmus import documents
from isthmus.adapters.local.signer import MemorySigner
from isthmus.errors import (
    DigestMismatch,
    EnvironmentProblem,
    InvalidCase,
    InvalidDocument,
    InvalidInput,
    InvalidModel,
    IsthmusError,
    SignatureInvalid,
    SlicesDiffer,
)
from isthmus.inference.archive import unpack_bundle
from isthmus.inference.bundle import open_bundle
from isthmus.inference.engine import OnnxEngine
from isthmus.inference.http import HttpRequest
from isthmus.inference.proof import prove
from isthmus.inference.service import ModelService, served
from isthmus.model import layout
from isthmus.model.sliced import CALLER, MAX_RELATIVE, SlicedModel
from isthmus.model.slicing import Transfer
from isthmus.workflows import seal_slices
from isthmus.workflows.package_model import package_model
from isthmus.workflows.slice_model import Given, Order, slice_model
from isthmus.workflows.sliced_folder import SLICED_FILE, commit, key_file, load_sliced, verify_sliced

IMAGES = np.random.default_rng(1).standard_normal((5, 3, 16, 16)).astype("float32")
THREE = ([(0, 1)], [(1, 2)], [(2, 5)])


def cut(world: World, order: Order, name: str = "out", **changes: Any) -> tuple[SlicedModel, Path]:
    folder = world.folder / name
    values: dict[str, Any] = {"signer": world.signer, "open_engine": OnnxEngine, "now": NOW} | changes
    return slice_model(order, folder, **values), folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return residual(tmp_path / "residual.onnx")


def test_slices_are_served_like_any_other_model_and_together_are_the_whole(world: World, model: Path) -> None:
    document, folder = cut(
        world, order_of(model, plan_of(model, *THREE), samples=Given({"": IMAGES}, "images"))
    )
    key = key_file(folder, document).read_bytes()
    known = {"image": IMAGES}
    for entry in document.slices:
        bundle = open_bundle(folder / entry.folder, key, sha256=entry.bundle or "")
        found = served(bundle, threads=1)
        assert (found.name, prove(bundle, found)) == (entry.name, 0.0)
        known |= found.run({spec.name: known[spec.name] for spec in entry.inputs}, raw=False)
    whole = OnnxEngine(model).run({"image": IMAGES})["scores"]
    assert np.abs(known["scores"] - whole).max() <= MAX_RELATIVE * np.ptp(whole)
    assert [entry.name for entry in document.slices] == [f"residual-slice-{k}" for k in range(3)]
    assert [entry.device for entry in document.slices] == ["d0", "d1", "d2"]
    assert (document.slices[0].inputs[0].shape, document.batch_open) == ((-1, 3, 16, 16), True)
    assert (document.proof.samples, document.proof.source, document.proof.origin) == (5, "file", "images")


def test_a_slice_answers_over_the_protocol(world: World, model: Path) -> None:
    document, folder = cut(world, order_of(model, plan_of(model, [(0, 3)], [(3, 5)])))
    tail = document.slices[1]
    service = ModelService([served(open_bundle(folder / tail.folder, world.signer.public_key()), threads=1)])
    (spec,) = tail.inputs
    pooled = np.ones((2, *spec.shape[1:]), "float32")
    tensor = {"name": spec.name, "datatype": "FP32", "shape": pooled.shape, "data": pooled.ravel().tolist()}
    body = json.dumps({"inputs": [tensor]}).encode()
    request = HttpRequest("POST", f"/v2/models/{tail.name}/infer", {"content-type": "application/json"}, body)
    answer = service.handle(request)
    assert answer.status == 200
    assert json.loads(answer.body)["outputs"][0]["shape"] == [2, 10]


def test_the_document_is_signed_and_names_the_model_and_the_plan(world: World, model: Path) -> None:
    plan = plan_of(model, *THREE)
    document, folder = cut(world, order_of(model, plan))
    verify_sliced(document, world.signer.public_key())
    for other in (
        changed(document, fencing=9),
        changed(document, signature=None),
        changed(document, signature="*"),
    ):
        with pytest.raises(SignatureInvalid):
            verify_sliced(other, world.signer.public_key())
    read, beside = load_sliced(folder)
    assert (read, beside) == (document, plan)
    assert (document.model_sha256, document.plan_sha256) == (plan.network_digest, documents.digest(plan))
    lineage = open_bundle(folder / document.slices[0].folder, None).manifest.lineage
    assert (lineage.model_sha256, lineage.plan_sha256) == (document.model_sha256, document.plan_sha256)


def test_a_tensor_that_skips_a_slice_goes_straight_to_who_reads_it(world: World, tmp_path: Path) -> None:
    model = attention(tmp_path / "attention.onnx")
    document, _ = cut(world, order_of(model, plan_of(model, [(0, 9)], [(9, 16)], [(16, 19)])))
    ways = {(sent.source, sent.target): sent.tensors for sent in document.transfers}
    assert ways[CALLER, 0] == ("x",)
    assert ways[2, CALLER] == ("y",)
    assert set(document.crossing(0)) == {"x"}
    for k in (1, 2):
        crossing = {
            name for (source, target), names in ways.items() if source < k <= target for name in names
        }
        assert set(document.crossing(k)) == crossing
        made = {spec.name for entry in document.slices[:k] for spec in entry.outputs}
        assert crossing <= made | {"x"}
    assert document.passing(1) == tuple(
        name
        for name in document.crossing(2)
        if name not in {spec.name for spec in document.slices[1].outputs}
    )


def test_outputs_that_no_operator_makes_come_with_the_last_slice(world: World, tmp_path: Path) -> None:
    model = flags(tmp_path / "flags.onnx")
    document, folder = cut(world, order_of(model, plan_of(model, [(0, 1)], [(1, 3)])))
    known: dict[str, Any] = {"x": IMAGES.reshape(-1, 5)[:4]}
    for entry in document.slices:
        engine = OnnxEngine(folder / entry.folder / "model.onnx")
        known |= engine.run({spec.name: known[spec.name] for spec in entry.inputs})
    for name, expected in OnnxEngine(model).run({"x": known["x"]}).items():
        assert np.array_equal(known[name], expected), name


def test_shared_weights_go_to_each_slice_that_reads_them(world: World, tmp_path: Path) -> None:
    model = tied(tmp_path / "tied.onnx")
    document, _ = cut(world, order_of(model, plan_of(model, [(0, 1)], [(1, 6)])))
    assert all(entry.size_bytes > 100 * 32 * 4 for entry in document.slices)
    assert document.proof.relative == 0


def test_a_slice_of_several_ranges_runs_as_several(world: World, model: Path) -> None:
    document, _ = cut(world, order_of(model, plan_of(model, [(0, 1), (3, 5)], [(1, 3)])))
    assert [(entry.start, entry.end, entry.device) for entry in document.slices] == [
        (0, 1, "d0"),
        (1, 3, "d1"),
        (3, 5, "d0"),
    ]
    assert [entry.planned_as for entry in document.slices] == [0, 1, 0]
    assert sum(entry.compute_seconds for entry in document.slices) == pytest.approx(0.5)


@pytest.mark.parametrize(("cast", "part"), [("float16", 2), ("int8", 4)])
def test_with_a_cast_the_difference_is_stated_and_less_is_sent(
    world: World, model: Path, cast: Any, part: int
) -> None:
    exact, _ = cut(world, order_of(model, plan_of(model, *THREE)), "exact")
    document, _ = cut(world, order_of(model, plan_of(model, *THREE), cast=cast), "cast")
    assert MAX_RELATIVE < document.proof.relative < 0.05
    assert (document.cast, document.proof.cast) == (cast, cast)
    for one, other in zip(exact.transfers, document.transfers, strict=True):
        between = CALLER not in (one.source, one.target)
        assert (other.cast, one.size_bytes // other.size_bytes) == ((cast, part) if between else ("", 1))


def test_figures_of_the_plan_are_kept(world: World, model: Path) -> None:
    sent = Transfer(
        source=0, target=1, tensors=("r1",), size_bytes=1, seconds=0.125, transport="relay", leakage_r2=0.5
    )
    plan = plan_of(model, [(0, 1)], [(1, 5)], transfers=[changed(sent, dtype="int8")])
    document, _ = cut(world, order_of(model, plan, zones={"d0": "onprem-milan"}))
    (found,) = (entry for entry in document.transfers if entry.source == 0)
    assert (found.seconds, found.transport, found.leakage_r2, found.cast) == (0.125, "relay", 0.5, "int8")
    assert found.size_bytes == 32 * 16 * 16
    assert [entry.zone for entry in document.slices] == ["onprem-milan", ""]


class Off:
    """An engine whose answers are a little off."""

    def __init__(self, path: Path) -> None:
        self.engine = OnnxEngine(path)

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return {name: array + np.float32(0.001) for name, array in self.engine.run(inputs).items()}


def test_slices_that_differ_are_refused_and_what_was_there_stays(world: World, model: Path) -> None:
    before, folder = cut(world, order_of(model, plan_of(model, *THREE)))
    files = sorted(path.name for path in folder.iterdir())

    def engine(path: Path) -> Any:
        return OnnxEngine(path) if path == model else Off(path)

    with pytest.raises(
        SlicesDiffer, match=r"scores differs from the whole's by .* at most 2e-06 is allowed: give real"
    ):
        cut(world, order_of(model, plan_of(model, [(0, 2)], [(2, 5)])), open_engine=engine)
    assert sorted(path.name for path in folder.iterdir()) == files
    assert load_sliced(folder)[0] == before


def test_slicing_anew_replaces_all(world: World, model: Path) -> None:
    before, folder = cut(world, order_of(model, plan_of(model, *THREE)))
    after, _ = cut(world, order_of(model, plan_of(model, [(0, 2)], [(2, 5)])))
    kept = {path.name for path in folder.iterdir() if path.is_dir()}
    assert kept == {entry.folder for entry in after.slices}
    assert not kept & {entry.folder for entry in before.slices}
    assert load_sliced(folder)[0] == after


def test_a_slicing_that_ends_before_its_document_is_there_leaves_the_earlier_one(
    world: World, model: Path
) -> None:
    before, folder = cut(world, order_of(model, plan_of(model, *THREE)), signer=MemorySigner())
    plan = plan_of(model, [(0, 2)], [(2, 5)])
    after, other = cut(world, order_of(model, plan), "other")
    scratch = world.workdir()
    for entry in after.slices:
        (other / entry.folder).rename(scratch / entry.name)
    (scratch / SLICED_FILE).mkdir()  # so that it cannot be written
    with pytest.raises(OSError, match=SLICED_FILE):
        commit(folder, scratch, after, plan, world.signer.public_key())
    document, planned = load_sliced(folder)
    assert (document, planned) == (before, plan_of(model, *THREE))
    verify_sliced(document, key_file(folder, document).read_bytes())
    (scratch / SLICED_FILE).rmdir()
    commit(folder, scratch, after, plan, world.signer.public_key())
    assert load_sliced(folder) == (after, plan)
    assert len(list(folder.iterdir())) == len(after.slices) + 3


def test_a_bundle_keeps_its_processing_and_where_it_came_from(world: World) -> None:
    key = world.registered()
    world.attempt_left(key, 1, _linear())
    packaged = package_model(
        key, 1, blobs=world.blobs, records=world.records, signer=world.signer, open_engine=world.engine,
        installed=dict, workdir=world.workdir(),
    )  # fmt: skip
    archive = world.folder / "bundle.zip"
    world.blobs.download(layout.bundle_folder("digits", packaged.bundle) + "bundle.zip", archive)
    whole = unpack_bundle(archive, world.folder / "whole")
    plan = plan_of(whole / "model.onnx", [(0, 1)], [(1, 2)])
    document, folder = cut(world, order_of(whole, changed(plan, network="digits")))
    head, tail = (open_bundle(folder / entry.folder, world.signer.public_key()) for entry in document.slices)
    before = open_bundle(whole, None).manifest
    assert (head.manifest.raw, head.manifest.preprocessing) == (before.raw, before.preprocessing)
    assert (tail.manifest.raw, tail.manifest.preprocessing) == (None, ())
    assert head.manifest.lineage.dataset == before.lineage.dataset == "digits"
    assert prove(head, served(head, threads=1)) == 0.0
    # What it says is signed anew with what is published, so somebody must have signed it before.
    with pytest.raises(SignatureInvalid):
        cut(world, order_of(whole, plan), "theirs", signer=MemorySigner(), reserve=lambda wanted: wanted)
    (whole / "manifest.json").write_bytes(
        (whole / "manifest.json").read_bytes().replace(b"digits", b"forged")
    )
    with pytest.raises(SignatureInvalid):
        cut(world, order_of(whole, plan), "forged", reserve=lambda wanted: wanted)
    with (whole / "model.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(DigestMismatch):
        cut(world, order_of(whole, plan), "changed")


def test_a_slice_has_a_golden_input_where_one_can_be_asked(
    world: World, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document, folder = cut(world, order_of(model, plan_of(model, *THREE)))
    first = open_bundle(folder / document.slices[0].folder, None)
    ((_, asked, expected),) = first.goldens()
    assert (asked.shape, expected.shape) == ((4, 3, 16, 16), (4, 32, 16, 16))
    monkeypatch.setattr(seal_slices, "MAX_ELEMENTS", 3 * 16 * 16)
    document, folder = cut(world, order_of(model, plan_of(model, *THREE)), "narrow")
    bundles = [open_bundle(folder / entry.folder, None) for entry in document.slices]
    assert [len(bundle.manifest.goldens) for bundle in bundles] == [0, 0, 0]


def _linear() -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Tanh", ["h"], ["logits"])]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(np.eye(3, dtype=np.float32), "w")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(made.SerializeToString())


def _other_model(model: Path, folder: Path) -> Order:
    return order_of(model, changed(plan_of(model, *THREE), network_digest="0" * 64))


def _fewer(model: Path, folder: Path) -> Order:
    return order_of(model, plan_of(model, [(0, 2)], [(2, 4)]))


def _full(model: Path, folder: Path) -> Order:
    folder.mkdir()
    (folder / "letter.txt").write_text("dear")
    return order_of(model, plan_of(model, *THREE))


def _nameless(model: Path, folder: Path) -> Order:
    return order_of(model, plan_of(model, *THREE), name="42")


def _no_plan(model: Path, folder: Path) -> Order:
    return Order(model, b'{"schema": "isthmus/slices/1"}')


def _folder(model: Path, folder: Path) -> Order:
    return Order(model.parent, documents.encode(plan_of(model, *THREE)))


def _wide(model: Path, folder: Path) -> Order:
    return order_of(model, plan_of(model, *THREE), samples=Given({"": IMAGES[:, :2]}, "two.npy"))


def _words(model: Path, folder: Path) -> Order:
    return order_of(model, plan_of(model, *THREE), samples=Given({"a": IMAGES, "b": IMAGES}, "two.npz"))


@pytest.mark.parametrize(
    ("make", "kind", "sentence"),
    [
        (_other_model, InvalidCase, "the plan is of residual .* is another model"),
        (_fewer, InvalidCase, "needs a plan of all 5 operators of the model; that of residual has 4"),
        (_full, EnvironmentProblem, "holds letter.txt and no sliced.json: name a folder that is new"),
        (_nameless, InvalidCase, "needs a name that begins with a letter for the slices; '42' is none"),
        (_no_plan, InvalidDocument, "the plan cannot be used"),
        (_folder, InvalidModel, "is a folder without model.onnx"),
        (_wide, InvalidInput, r"two.npy must hold image as float32 \[samples, 3, 16, 16\]; it holds"),
        (_words, InvalidInput, "two.npz must hold an array for each input, image; it lacks image"),
    ],
    ids=["other model", "fewer operators", "full folder", "name", "no plan", "folder", "samples", "inputs"],
)
def test_what_cannot_be_sliced_is_refused_in_a_sentence(
    world: World, model: Path, make: Any, kind: type[IsthmusError], sentence: str
) -> None:
    with pytest.raises(kind, match=sentence):
        cut(world, make(model, world.folder / "out"))
    assert not (world.folder / "out" / SLICED_FILE).exists()


def test_a_document_that_contradicts_itself_is_refused(world: World, model: Path) -> None:
    document, folder = cut(world, order_of(model, plan_of(model, *THREE)))
    first, *rest = document.slices
    for slices in (
        (),
        tuple(rest),
        (changed(first, folder="../x"), *rest),
        (changed(first, places=()), *rest),
    ):
        (folder / SLICED_FILE).write_bytes(documents.encode(changed(document, slices=slices)))
        with pytest.raises(InvalidDocument, match="cannot be used"):
            load_sliced(folder)


def test_another_key_signed_other_slices(world: World, model: Path) -> None:
    document, folder = cut(world, order_of(model, plan_of(model, *THREE)), signer=MemorySigner())
    with pytest.raises(SignatureInvalid):
        open_bundle(folder / document.slices[0].folder, world.signer.public_key())
