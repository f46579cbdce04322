"""Sliced models in a stack: releases that what deploys models can put in service."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from profile_networks import residual
from slicing_world import changed, order_of, plan_of
from workflow_world import CLOUD, NOW, World, pattern

from isthmus import documents
from isthmus.adapters.local.call_figures import MemoryCallFigures
from isthmus.adapters.local.events import MemoryExecutions
from isthmus.adapters.local.functions import MemoryFunctions
from isthmus.errors import DigestMismatch, InvalidCase, LimitExceeded
from isthmus.inference import limits
from isthmus.inference.archive import unpack_bundle
from isthmus.inference.bundle import describe_files, seal_bundle
from isthmus.inference.engine import OnnxEngine
from isthmus.inference.lambda_handler import answer
from isthmus.inference.onnx_model import describe_onnx
from isthmus.inference.service import service_for_folder
from isthmus.model import layout
from isthmus.model.bundle import BundleManifest, Lineage
from isthmus.model.sliced import SlicedModel
from isthmus.workflows.deploy_cloud import act
from isthmus.workflows.number_slices import Reservation
from isthmus.workflows.publish_slices import deploy_slices, publish_slices, reserve
from isthmus.workflows.slice_model import slice_model

ZONES = {"d0": "onprem-milan", "d1": "aws:eu-west-1"}


def cut(
    world: World, model: Path, at: int = 2, name: str = "out", **changes: Any
) -> tuple[SlicedModel, Path]:
    order = order_of(model, plan_of(model, [(0, at)], [(at, 5)]), zones=ZONES)
    values: dict[str, Any] = {"reserve": partial(reserve, records=world.records), "now": NOW} | changes
    folder = world.folder / name
    return slice_model(order, folder, signer=world.signer, open_engine=OnnxEngine, **values), folder


def publish(world: World, document: SlicedModel, folder: Path) -> str:
    return publish_slices(document, folder, blobs=world.blobs, records=world.records, workdir=world.workdir())


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return residual(tmp_path / "residual.onnx")


def test_each_slice_is_a_release_and_the_model_its_slices(world: World, model: Path) -> None:
    document, folder = cut(world, model)
    key = publish(world, document, folder)
    assert documents.decode(SlicedModel, world.blobs.get(key, max_bytes=1 << 20), "it") == document
    current = world.records.get(layout.model_pk("residual"), layout.SLICED)
    assert current is not None
    assert (current["document"], current["fencing"]) == (key, document.fencing)
    for entry in document.slices:
        release = world.records.get(layout.model_pk(entry.name), layout.release_sk(1))
        assert release is not None
        assert (release["bundle"], release["serving"]["by"], release["slice_of"]) == (
            entry.bundle,
            "layer",
            "residual",
        )
        stored = layout.bundle_folder(entry.name, entry.bundle or "")
        names = {info.key.removeprefix(stored) for info in world.blobs.keys(stored)}
        assert names == {"bundle.zip", "layer.zip", "model.onnx", "manifest.json", "manifest.sig"}


def test_the_same_slices_published_again_are_the_same_bytes(world: World, model: Path) -> None:
    first, folder = cut(world, model)
    publish(world, first, folder)
    stored = {info.key: info.sha256 for info in world.blobs.keys(layout.BUNDLES)}
    again, folder = cut(world, model, name="again", now="2027-01-01T00:00:00+00:00")
    publish(world, again, folder)
    assert [entry.bundle for entry in again.slices] == [entry.bundle for entry in first.slices]
    assert [entry.release for entry in again.slices] == [1, 1]
    left = {info.key: info.sha256 for info in world.blobs.keys(layout.BUNDLES)}
    assert {key: value for key, value in left.items() if "/sliced/" not in key} == {
        key: value for key, value in stored.items() if "/sliced/" not in key
    }
    other, folder = cut(world, model, at=3, name="other")
    publish(world, other, folder)
    assert [entry.release for entry in other.slices] == [2, 2]
    assert [first.fencing, again.fencing, other.fencing] == [1, 2, 3]


def test_a_release_is_one_bundle_for_ever(world: World, model: Path) -> None:
    first, folder = cut(world, model)
    publish(world, first, folder)
    before = world.records.get(layout.model_pk("residual-slice-0"), layout.release_sk(1))
    # Of the same file with the same plan: but slices keep what a bundle says of where the whole came from.
    bundle = world.folder / "bundle"
    bundle.mkdir()
    shutil.copy(model, bundle / "model.onnx")
    inputs, outputs, opset = describe_onnx(model)
    manifest = BundleManifest(
        model="residual", release=7, files=describe_files(bundle), opset=opset, inputs=inputs, outputs=outputs,
        lineage=Lineage(job_key="j" * 40, dataset="pictures"), created_at=NOW,
    )  # fmt: skip
    seal_bundle(bundle, manifest, world.signer)
    order = order_of(bundle, plan_of(model, [(0, 2)], [(2, 5)]), zones=ZONES)
    values: dict[str, Any] = {"reserve": partial(reserve, records=world.records), "now": NOW}
    folder = world.folder / "other"
    other = slice_model(order, folder, signer=world.signer, open_engine=OnnxEngine, **values)
    publish(world, other, folder)
    assert (other.model_sha256, other.plan_sha256) == (first.model_sha256, first.plan_sha256)
    assert [entry.release for entry in other.slices] == [2, 2]
    assert world.records.get(layout.model_pk("residual-slice-0"), layout.release_sk(1)) == before


def test_a_release_of_another_bundle_is_not_replaced(world: World, model: Path) -> None:
    document, folder = cut(world, model)
    key = {"pk": layout.model_pk("residual-slice-1"), "sk": layout.release_sk(1)}
    world.records.put({**key, "bundle": "0" * 64})
    with pytest.raises(InvalidCase, match="release 1 of residual-slice-1 is the bundle 000000000000 already"):
        publish(world, document, folder)
    assert (world.records.get(key["pk"], key["sk"]) or {})["bundle"] == "0" * 64


def test_of_two_slicings_the_later_one_stays(world: World, model: Path) -> None:
    early, folder = cut(world, model)
    late, late_folder = cut(world, model, at=3, name="late")
    key = publish(world, late, late_folder)
    with pytest.raises(InvalidCase, match="residual was sliced again meanwhile"):
        publish(world, early, folder)
    current = world.records.get(layout.model_pk("residual"), layout.SLICED) or {}
    assert current["document"] == key


def test_two_who_number_at_once_agree(world: World) -> None:
    asked = Reservation("net", "k" * 40, "c" * 64, {"net-slice-0": 1, "net-slice-1": 1}, NOW, 0)
    taken: list[Reservation] = []

    class Between:
        """Lets another one number while the first is about to write."""

        def __getattr__(self, name: str) -> Any:
            return getattr(world.records, name)

        def update(self, *given: Any, **named: Any) -> None:
            if not taken:
                taken.append(reserve(asked, records=world.records))
            world.records.update(*given, **named)

    mine = reserve(asked, records=Between())  # type: ignore[arg-type]
    assert mine.releases == taken[0].releases
    assert mine.fencing > taken[0].fencing


def test_what_deploys_models_stages_and_proves_a_slice(world: World, model: Path) -> None:
    document, folder = cut(world, model, at=3)
    publish(world, document, folder)
    executions = MemoryExecutions()
    started = deploy_slices(document, records=world.records, executions=executions, machine="m")
    assert started == ["residual-slice-1"], "the other slice's device is not in AWS"
    assert deploy_slices(document, records=world.records, executions=executions, machine="m") == []
    ((_, asked),) = executions.started.items()
    archive = world.folder / "layer.zip"
    world.blobs.download(layout.bundle_folder(asked["model"], asked["bundle"]) + "layer.zip", archive)
    served = service_for_folder(
        unpack_bundle(archive, world.folder / "opt", prefix="isthmus/model/"),
        world.signer.public_key(),
        threads=1,
    )
    functions = MemoryFunctions(lambda version, event: answer(event, served))
    functions.install("serve", pattern())

    def run(action: str, **more: Any) -> Any:
        return act(
            {**asked, "action": action, "rollout": "run", **more}, replace(CLOUD), blobs=world.blobs,
            records=world.records, functions=functions, figures=MemoryCallFigures(), signer=world.signer,
            workdir=world.workdir(), now=NOW,
            clock=1000.0,
        )  # fmt: skip

    staged = run("stage")
    assert staged["function"] == "shop-model-residual-slice-1"
    proof = run("prove", function=staged["function"], version=staged["version"], release=asked["release"])
    assert proof["largest_difference"] == 0.0
    assert run("commit", version=staged["version"])["committed"] == staged["version"]
    champion = world.records.get(layout.CHAMPIONS, "residual-slice-1") or {}
    assert champion["bundle"] == document.slices[1].bundle


def test_a_large_slice_is_fetched_from_the_bucket(
    world: World, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document, folder = cut(world, model)
    monkeypatch.setattr(limits, "UNZIPPED_LIMIT_BYTES", 128 * 1024 * 1024 + 1000)
    publish(world, document, folder)
    release = world.records.get(layout.model_pk("residual-slice-1"), layout.release_sk(1)) or {}
    assert release["serving"]["by"] == "weights"
    monkeypatch.setattr(limits, "MAX_MEMORY_MB", 100)
    other, folder = cut(world, model, at=3, name="other")
    with pytest.raises(LimitExceeded):
        publish(world, other, folder)
    current = world.records.get(layout.model_pk("residual"), layout.SLICED) or {}
    assert current["fencing"] == document.fencing


def test_what_cannot_be_published_is_refused(world: World, model: Path) -> None:
    document, folder = cut(world, model, reserve=None)
    with pytest.raises(InvalidCase, match="were made for a folder alone: slice with --publish"):
        publish(world, document, folder)
    document, folder = cut(world, model, name="changed")
    inside = folder / document.slices[0].folder / "model.onnx"
    inside.write_bytes(inside.read_bytes()[:-1] + b"x")
    with pytest.raises(DigestMismatch):
        publish(world, document, folder)
    at_home = changed(document, slices=tuple(document.slices[:1]))
    with pytest.raises(InvalidCase, match="the slices' zones are onprem-milan"):
        deploy_slices(at_home, records=world.records, executions=MemoryExecutions(), machine="m")
