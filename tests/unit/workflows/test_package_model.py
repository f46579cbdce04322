from __future__ import annotations

import zipfile

import pytest
from workflow_world import NOW, World, onnx_model, weights_right_for

from isthmus import documents
from isthmus.adapters.local.signer import MemorySigner
from isthmus.errors import InvalidModel, LimitExceeded, SignatureInvalid
from isthmus.inference.archive import LAYER_PREFIX, unpack_bundle
from isthmus.inference.bundle import open_bundle
from isthmus.inference.proof import prove
from isthmus.inference.service import served
from isthmus.model import layout
from isthmus.model.job import Import
from isthmus.workflows.package_model import Packaged, package_model

MIB = 1024 * 1024


def package(world: World, key: str, fencing: int = 1, installed: dict[str, int] | None = None) -> Packaged:
    return package_model(
        key,
        fencing,
        blobs=world.blobs,
        records=world.records,
        signer=world.signer,
        open_engine=world.engine,
        installed=lambda: installed or {},
        workdir=world.workdir(),
    )


def trained(world: World, model: bytes | None = None) -> str:
    key = world.registered()
    world.attempt_left(key, 1, model or onnx_model())
    world.records.update(layout.job_pk(key), layout.STATE, {"evaluation": {"candidate": 0.98}})
    return key


def stored(world: World, packaged: Packaged) -> dict[str, int]:
    folder = layout.bundle_folder(packaged.model, packaged.bundle)
    return {info.key.removeprefix(folder): info.size_bytes for info in world.blobs.keys(folder)}


def test_the_bundle_opens_verifies_and_proves_itself(world: World) -> None:
    key = trained(world)
    packaged = package(world, key)
    archive = world.folder / "b.zip"
    folder = layout.bundle_folder("digits", packaged.bundle)
    world.blobs.download(folder + "bundle.zip", archive)
    bundle = open_bundle(unpack_bundle(archive, world.folder / "b"), world.signer.public_key())
    assert bundle.sha256 == packaged.bundle
    manifest = bundle.manifest
    assert (manifest.model, manifest.release, manifest.created_at) == ("digits", 1, NOW)
    assert manifest.metrics == {"accuracy": 0.98}
    assert (manifest.lineage.job_key, manifest.lineage.fencing) == (key, 1)
    assert manifest.raw is not None
    assert (manifest.raw.datatype, manifest.raw.shape) == ("UINT8", (-1, 3))
    assert manifest.opset == 17
    assert len(manifest.goldens) == 1
    assert prove(bundle, served(bundle, threads=1)) < 1e-6


def test_another_key_does_not_open_it(world: World) -> None:
    packaged = package(world, trained(world))
    archive = world.folder / "b.zip"
    world.blobs.download(layout.bundle_folder("digits", packaged.bundle) + "bundle.zip", archive)
    with pytest.raises(SignatureInvalid):
        open_bundle(unpack_bundle(archive, world.folder / "b"), MemorySigner().public_key())


def test_layer_and_single_files_are_there_too(world: World) -> None:
    packaged = package(world, trained(world))
    names = stored(world, packaged)
    assert set(names) == {"bundle.zip", "layer.zip", "manifest.json", "manifest.sig", "model.onnx"}
    layer = world.folder / "l.zip"
    world.blobs.download(layout.bundle_folder("digits", packaged.bundle) + "layer.zip", layer)
    with zipfile.ZipFile(layer) as archive:
        assert all(name.startswith(LAYER_PREFIX) for name in archive.namelist())
    raw = world.blobs.get(layout.bundle_folder("digits", packaged.bundle) + "manifest.json", max_bytes=MIB)
    assert documents.sha256(raw) == packaged.bundle


def test_packaged_again_it_is_the_same_release_digest_and_bytes(world: World) -> None:
    key = trained(world)
    first = package(world, key)
    folder = layout.bundle_folder("digits", first.bundle)
    before = {name: world.blobs.sha256(folder + name) for name in stored(world, first)}
    assert package(world, key) == first
    after = {name: world.blobs.sha256(folder + name) for name in stored(world, first)}
    assert after == before, "Greengrass keeps the digest of bundle.zip; a new signature would break it"


def test_another_attempt_or_job_gets_the_next_release(world: World) -> None:
    key = trained(world)
    first = package(world, key)
    world.attempt_left(key, 2, onnx_model(weights_right_for(2)))
    second = package(world, key, fencing=2)
    other = world.registered(world.job(world.training(hyperparameters={"epochs": 2})))
    world.attempt_left(other, 1, onnx_model())
    third = package(world, other)
    assert [entry.release for entry in (first, second, third)] == [1, 2, 3]
    assert len({entry.bundle for entry in (first, second, third)}) == 3
    releases = world.records.query(layout.model_pk("digits"), prefix="RELEASE#")
    assert [item["bundle"] for item in releases] == [first.bundle, second.bundle, third.bundle]


def test_over_lambdas_limit_nothing_is_uploaded(world: World) -> None:
    key = trained(world)
    installed = {"layers: numpy": 60 * MIB, "layers: onnxruntime": 200 * MIB, "function code": 10}
    with pytest.raises(LimitExceeded) as error:
        package(world, key, installed=installed)
    said = str(error.value)
    assert "bytes unzipped; AWS Lambda allows 262,144,000" in said
    assert said.index("onnxruntime 209,715,200") < said.index("numpy 62,914,560")
    assert list(world.blobs.keys("bundles/")) == []
    assert world.records.query(layout.model_pk("digits"), prefix="RELEASE#") == []


def test_an_import_is_packaged_without_code(world: World) -> None:
    artifact = world.put_blob("code/m.onnx", onnx_model())
    job = world.job(Import(artifact=artifact), evaluation=None, raw_shape=None, preprocessing=())
    packaged = package(world, world.registered(job), fencing=0)
    raw = world.blobs.get(layout.bundle_folder("digits", packaged.bundle) + "manifest.json", max_bytes=MIB)
    assert b'"code_sha256"' not in raw or b'"code_sha256":null' in raw
    assert b'"goldens":[{' in raw, "synthetic inputs prove an imported model too"


def test_a_raw_shape_with_a_batch_of_one_is_packaged(world: World) -> None:
    assert package(world, trained(world, onnx_model(batch=1))).release == 1


def test_not_a_model_is_refused(world: World) -> None:
    with pytest.raises(InvalidModel):
        package(world, trained(world, b"nonsense"))
    assert list(world.blobs.keys("bundles/")) == []
