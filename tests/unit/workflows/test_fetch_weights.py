"""A bundle over Lambda's limit: chosen by the packager, staged with room for it, fetched and verified."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from workflow_world import CLOUD, NOW, World, onnx_model, pattern

from isthmus.adapters.local.call_figures import MemoryCallFigures
from isthmus.adapters.local.functions import MemoryFunctions
from isthmus.adapters.local.signer import MemorySigner
from isthmus.errors import DigestMismatch, InvalidModel, LimitExceeded, MissingFile, SignatureInvalid
from isthmus.inference.bundle import open_bundle
from isthmus.inference.limits import UNZIPPED_LIMIT_BYTES, choose_serving
from isthmus.inference.proof import prove
from isthmus.inference.service import served
from isthmus.model import layout
from isthmus.model.job import Job
from isthmus.model.units import GIB, MIB
from isthmus.workflows.deploy_cloud import act
from isthmus.workflows.fetch_weights import fetch_weights
from isthmus.workflows.package_model import Packaged, package_model

FULL = {"layers: onnxruntime": UNZIPPED_LIMIT_BYTES - 10}
"""So that any bundle is too much."""
FUNCTION = "shop-model-digits"


def packaged(
    world: World, *, installed: dict[str, int] = FULL, model: bytes | None = None, job: Job | None = None
) -> Packaged:
    key = world.registered(job)
    world.attempt_left(key, 1, model or onnx_model())
    return package_model(
        key,
        1,
        blobs=world.blobs,
        records=world.records,
        signer=world.signer,
        open_engine=world.engine,
        installed=lambda: installed,
        workdir=world.workdir(),
    )


def fetch(world: World, found: Packaged, key: bytes | None = None) -> Any:
    into = world.folder / "tmp" / found.bundle
    public = key or world.signer.public_key()
    return fetch_weights("digits", found.bundle, public, into, blobs=world.blobs)


def staged(world: World, functions: MemoryFunctions, found: Packaged) -> Any:
    event = {
        "action": "stage",
        "model": "digits",
        "bundle": found.bundle,
        "release": found.release,
        "against": 0,
        "rollout": "run-1",
    }
    return act(
        event,
        CLOUD,
        blobs=world.blobs,
        records=world.records,
        functions=functions,
        figures=MemoryCallFigures(),
        signer=world.signer,
        workdir=world.workdir(),
        now=NOW,
        clock=1000.0,
    )


def test_the_packager_chooses_and_says_why(world: World) -> None:
    found = packaged(world)
    assert found.serving == "weights"
    names = {info.key.rpartition(found.bundle + "/")[2] for info in world.blobs.keys("bundles/")}
    assert "layer.zip" not in names
    assert names >= {"bundle.zip", "manifest.json", "manifest.sig", "model.onnx", "golden/0.input.npy"}
    record = world.records.get(layout.model_pk("digits"), layout.release_sk(1))
    assert "Lambda allows 262,144,000" in record["serving"]["why"]


def test_what_fits_comes_in_a_layer_as_ever(world: World) -> None:
    found = packaged(world, installed={})
    functions = MemoryFunctions()
    functions.install("serve", pattern())
    staged(world, functions, found)
    (version,) = functions.published(FUNCTION)
    assert (found.serving, len(version.layers)) == ("layer", 3)
    assert "ISTHMUS_BUNDLE" not in version.code.settings["Environment"]["Variables"]


def test_its_function_has_no_layer_of_the_model_and_room_for_it(world: World) -> None:
    found = packaged(world)
    functions = MemoryFunctions()
    functions.install("serve-weights", pattern("code-of-weights"))
    staged(world, functions, found)
    (version,) = functions.published(FUNCTION)
    assert version.code.sha256 == "code-of-weights", "after the pattern that may fetch it"
    assert version.layers == ("core:1", "onnx:1")
    assert functions.layers == {}
    settings = version.code.settings
    assert settings["Environment"]["Variables"]["ISTHMUS_BUNDLE"] == f"digits/{found.bundle}"
    assert settings["Environment"]["Variables"]["ISTHMUS_PUBLIC_KEY"]
    assert settings["EphemeralStorage"] == {"Size": 512}, "Lambda's least is room enough"
    assert settings["MemorySize"] == 1769, "never less than the stack's"


@pytest.mark.parametrize(
    ("size", "memory", "disk"), [(300 * MIB, 1112, 556), (2 * GIB, 4608, 2304), (4864 * MIB, 10240, 5120)]
)
def test_memory_and_disk_grow_with_the_bundle(size: int, memory: int, disk: int) -> None:
    found = choose_serving({"layers": 80 * MIB}, size)
    assert (found.by, found.memory_mb, found.disk_mb) == ("weights", memory, disk)


def test_what_no_function_can_hold_is_refused_with_the_other_ways(world: World) -> None:
    with pytest.raises(LimitExceeded, match=r"needs about 10,242 MB.*10,240.*SageMaker Serverless"):
        choose_serving({}, 4865 * MIB)


def test_what_was_fetched_answers_its_goldens_and_is_the_same_bundle(world: World) -> None:
    found = packaged(world)
    bundle = fetch(world, found)
    assert bundle.sha256 == found.bundle
    assert prove(bundle, served(bundle, threads=1)) < 1e-6
    assert fetch(world, found).sha256 == found.bundle, "what is there is not fetched again"


def large_model(width: int) -> bytes:
    """``logits [n, 3] = x [n, width] @ w [width, width] @ v [width, 3]`` as an ONNX file."""
    random = np.random.default_rng(0)
    sizes = {"w": (width, width), "v": (width, 3)}
    weights = [
        numpy_helper.from_array(random.random(size, np.float32) / width, name) for name, size in sizes.items()
    ]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("MatMul", ["h", "v"], ["logits"])],
        "large",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", width])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 3])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


@pytest.mark.slow
def test_a_model_over_lambdas_limit_goes_the_whole_way(world: World) -> None:
    """Three hundred million bytes: packaged, chosen, fetched in ranges, verified, and right on its goldens."""
    job = world.job(raw_shape=None, preprocessing=(), evaluation=None)
    found = packaged(world, installed={}, model=large_model(8660), job=job)
    assert found.serving == "weights", "by its own weight"
    bundle = fetch(world, found)
    assert bundle.model_path.stat().st_size > UNZIPPED_LIMIT_BYTES
    assert prove(bundle, served(bundle, threads=1)) < 1e-3


def replace_object(world: World, found: Packaged, name: str, data: bytes) -> None:
    path: Path = world.folder / "bucket" / (layout.bundle_folder("digits", found.bundle) + name)
    path.chmod(0o644)
    path.write_bytes(data)


def test_weights_that_somebody_changed_are_not_used(world: World) -> None:
    found = packaged(world)
    key = layout.bundle_folder("digits", found.bundle) + "model.onnx"
    before = world.blobs.get(key, max_bytes=MIB)
    replace_object(world, found, "model.onnx", before[:-1] + b"x")
    with pytest.raises(DigestMismatch):
        fetch(world, found)


def test_a_manifest_that_somebody_changed_is_not_read(world: World) -> None:
    found = packaged(world)
    key = layout.bundle_folder("digits", found.bundle) + "manifest.json"
    raw = world.blobs.get(key, max_bytes=MIB)
    replace_object(world, found, "manifest.json", raw.replace(b'"release":1', b'"release":2'))
    with pytest.raises(SignatureInvalid):
        fetch(world, found)


def test_a_bundle_that_somebody_else_signed_is_not_served(world: World) -> None:
    with pytest.raises(SignatureInvalid):
        fetch(world, packaged(world), key=MemorySigner().public_key())


def test_a_signed_bundle_in_anothers_place_is_not_served(world: World) -> None:
    """Both are ours; to serve the old one as the new one would be a rollback that nobody asked for."""
    first = packaged(world)
    second = "f" * 64
    for name in ("manifest.json", "manifest.sig"):
        key = layout.bundle_folder("digits", first.bundle) + name
        world.blobs.put(layout.bundle_folder("digits", second) + name, world.blobs.get(key, max_bytes=MIB))
    with pytest.raises(InvalidModel, match="another bundle than its name says"):
        fetch_weights("digits", second, world.signer.public_key(), world.folder / second, blobs=world.blobs)


def test_weights_that_are_gone_are_missed_by_name(world: World) -> None:
    found = packaged(world)
    world.blobs.delete(layout.bundle_folder("digits", found.bundle) + "model.onnx")
    with pytest.raises(MissingFile, match=r"model\.onnx"):
        fetch(world, found)


def test_the_edge_gets_the_same_bundle(world: World) -> None:
    from isthmus.inference.archive import unpack_bundle

    found = packaged(world)
    archive = world.folder / "bundle.zip"
    world.blobs.download(layout.bundle_folder("digits", found.bundle) + "bundle.zip", archive)
    folder = unpack_bundle(archive, world.folder / "edge")
    assert open_bundle(folder, world.signer.public_key()).sha256 == found.bundle
