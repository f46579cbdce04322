"""The 8-bit variant of a real network on real digits: served where the accuracy holds, and not where it does not."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier
from workflow_world import World, npy, onnx_model

from isthmus import documents
from isthmus.errors import InvalidModel
from isthmus.model import layout
from isthmus.model.bundle import BundleManifest
from isthmus.model.dataset import DatasetFile
from isthmus.model.job import Evaluation, HeldOut, Job
from isthmus.model.processing import Affine, Decode
from isthmus.workflows.package_model import package_model
from isthmus.workflows.quantize_model import MAX_LOST, split
from isthmus.workflows.start_pipeline import manifest_job_key

HELD_OUT = 600


pytestmark = pytest.mark.filterwarnings("ignore:Stochastic Optimizer")


@pytest.fixture(scope="module")
def digits() -> tuple[bytes, Any, Any]:
    """A network of two layers that was trained on digits, with the samples that it has not seen."""
    samples, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(samples))
    samples, labels = samples[order].astype(np.uint8), labels[order].astype(np.int64)
    net = MLPClassifier((64,), max_iter=40, random_state=0, tol=0)
    net.fit(samples[HELD_OUT:] / 16, labels[HELD_OUT:])
    return network(net.coefs_, net.intercepts_), samples[:HELD_OUT], labels[:HELD_OUT]


def network(weights: list[Any], biases: list[Any], width: int = 64) -> bytes:
    names = [f"{kind}{layer}" for layer in range(2) for kind in "wb"]
    arrays = [np.float32(array) for pair in zip(weights, biases, strict=True) for array in pair]
    nodes = [
        helper.make_node("Gemm", ["x", "w0", "b0"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "w1", "b1"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "mlp",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", width])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 10])],
        [numpy_helper.from_array(array, name) for array, name in zip(arrays, names, strict=True)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def registered(world: World, samples: Any, labels: Any) -> str:
    """Put a job that asks for the variant, and its dataset, where registering leaves them."""
    files = []
    for path, array in (("test/x.npy", samples), ("test/y.npy", labels)):
        data = npy(array)
        digest = documents.sha256(data)
        world.blobs.put(layout.dataset_folder("digits") + layout.blob_path(digest), data)
        files.append(DatasetFile(path=path, sha256=digest, size_bytes=len(data)))
    job = asked(world, samples.shape[1])
    manifest = world.manifest(job, tuple(files))
    key = manifest_job_key(manifest)
    world.blobs.put(layout.registered_manifest(key), documents.encode(manifest))
    world.blobs.put(layout.registered_job(key), documents.encode(job))
    world.records.update(
        layout.job_pk(key), layout.STATE, {"model": job.model, "evaluation": {"candidate": 0.5}}
    )
    return key


def asked(world: World, width: int) -> Job:
    return world.job(
        raw_shape=(width,),
        preprocessing=(Affine(scale=1 / 16),),
        quantization="int8",
        evaluation=Evaluation(
            inputs=HeldOut(path="test/x.npy", decode=Decode(format="npy", dtype="uint8")),
            labels=HeldOut(path="test/y.npy", decode=Decode(format="npy", dtype="int64")),
        ),
    )


def packaged(world: World, key: str, model: bytes) -> BundleManifest:
    world.attempt_left(key, 1, model)
    done = package_model(
        key,
        1,
        blobs=world.blobs,
        records=world.records,
        signer=world.signer,
        open_engine=world.engine,
        installed=dict,
        workdir=world.workdir(),
    )
    raw = world.blobs.get(layout.bundle_folder("digits", done.bundle) + "manifest.json", max_bytes=1 << 20)
    return documents.decode(BundleManifest, raw, "manifest")


def test_digits_lose_at_most_half_a_point_and_are_served_in_8_bits(
    world: World, digits: tuple[bytes, Any, Any]
) -> None:
    model, samples, labels = digits
    key = registered(world, samples, labels)
    manifest = packaged(world, key, model)
    figures = manifest.quantization
    assert isinstance(figures, msgspec.Struct)
    assert figures.served, figures.reason
    assert figures.accuracy is not None
    assert figures.float_accuracy is not None
    assert figures.float_accuracy > 0.9
    assert figures.accuracy >= figures.float_accuracy - MAX_LOST
    assert (figures.samples, figures.calibration_samples) == (450, 150)
    assert manifest.metrics == {"accuracy": figures.accuracy}
    assert packaged(world, key, model) == manifest, "packaged again it is the same bundle"


def test_what_loses_more_is_served_as_it_was_trained(world: World, digits: tuple[bytes, Any, Any]) -> None:
    """One huge input leaves the others too few steps of 8 bits to be told apart."""
    model, samples, labels = digits
    loud = np.concatenate([samples, np.full((len(samples), 1), 255, np.uint8)], axis=1)
    weights = [numpy_helper.to_array(entry) for entry in onnx_initializers(model)]
    # The column is scaled up inside the network, and then weighs nothing.
    wider = [np.concatenate([weights[0], np.zeros((1, 64), np.float32)]), weights[2]]
    key = registered(world, loud, labels)
    manifest = packaged(world, key, amplified(network(wider, [weights[1], weights[3]], width=65)))
    figures = manifest.quantization
    assert isinstance(figures, msgspec.Struct)
    assert not figures.served
    assert "points of accuracy; at most 0.50 are allowed" in figures.reason
    assert figures.accuracy is not None
    assert figures.accuracy < figures.float_accuracy - MAX_LOST
    assert manifest.metrics == {"accuracy": 0.5}


def onnx_initializers(model: bytes) -> Any:
    return onnx.load_from_string(model).graph.initializer


def amplified(model: bytes) -> bytes:
    """Multiply the last input by a million before the first layer."""
    loaded = onnx.load_from_string(model)
    scale = np.ones(65, np.float32)
    scale[-1] = 1e6
    loaded.graph.initializer.append(numpy_helper.from_array(scale, "scale"))
    loaded.graph.node[0].input[0] = "scaled"
    loaded.graph.node.insert(0, helper.make_node("Mul", ["x", "scale"], ["scaled"]))
    return bytes(loaded.SerializeToString())


def test_a_model_with_nothing_to_quantise_is_served_as_it_is(world: World) -> None:
    samples = np.eye(3, dtype=np.uint8).repeat(4, axis=0) * 16
    key = registered(world, samples, samples.argmax(1))
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "identity",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    figures = packaged(world, key, bytes(model.SerializeToString())).quantization
    assert isinstance(figures, msgspec.Struct)
    assert (figures.served, figures.accuracy) == (False, None)
    assert "nothing in the model" in figures.reason


def test_nobody_who_has_not_asked_gets_it(world: World) -> None:
    key = world.registered()
    assert packaged(world, key, onnx_model()).quantization is msgspec.UNSET


def test_it_needs_an_evaluation(world: World) -> None:
    with pytest.raises(ValueError, match="quantization needs an evaluation"):
        world.job(quantization="int8", evaluation=None)


@pytest.mark.parametrize(("count", "shown"), [(4, 1), (600, 150), (10_000, 256)])
def test_what_the_quantiser_is_shown_is_not_scored(count: int, shown: int) -> None:
    calibration, others = split(count)
    assert len(calibration) == shown
    assert sorted(calibration + others) == list(range(count))


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(InvalidModel, match="at least 4 held-out samples, and there are 3"):
        split(3)


def test_data_that_is_kept_elsewhere_is_said_to_be(world: World, digits: tuple[bytes, Any, Any]) -> None:
    model, samples, labels = digits
    key = registered(world, samples, labels)
    for info in list(world.blobs.keys(layout.dataset_folder("digits") + "blobs/")):
        world.blobs.delete(info.key)
    figures = packaged(world, key, model).quantization
    assert isinstance(figures, msgspec.Struct)
    assert (figures.served, figures.float_accuracy) == (False, None)
    assert "policy keeps it elsewhere" in figures.reason
