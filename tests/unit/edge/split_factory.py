"""A small convolutional network in three slices, as ``isthmus slice`` lays it on a device."""

from __future__ import annotations

import base64
import hashlib
import itertools
from pathlib import Path

import msgspec
import numpy as np
import onnx
from bundle_factory import KeySigner, npy
from onnx import TensorProto, helper, numpy_helper

from isthmus import documents
from isthmus.frameworks.onnx.cut import Cutter
from isthmus.inference.bundle import Bundle, describe_files, seal_bundle
from isthmus.inference.files import sha256_file
from isthmus.inference.onnx_model import describe_onnx
from isthmus.inference.runtime import load_onnxruntime
from isthmus.model.bundle import BundleManifest, Golden, Lineage
from isthmus.model.sliced import (
    ModelSlice,
    OutputProof,
    SlicedModel,
    SlicePlace,
    SliceProof,
    SliceTransfer,
)

SIDE, CHANNELS, CLASSES = 16, 8, 10
ZONES = ("edge-shop", "aws:eu-west-1", "aws:eu-west-1")


def write_network(path: Path) -> None:
    """Two convolutions with a skip connection, pooling and a classifier: ``scores [n, 10] = f(x [n, 3, 16, 16])``."""
    random = np.random.default_rng(5)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array((random.standard_normal(shape) * 0.3).astype("float32"), name)

    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"], pads=[1, 1, 1, 1], name="conv1"),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu1"),
        helper.make_node("MaxPool", ["r1"], ["p1"], kernel_shape=[2, 2], strides=[2, 2], name="pool1"),
        helper.make_node("Conv", ["p1", "w2"], ["c2"], pads=[1, 1, 1, 1], name="conv2"),
        helper.make_node("Relu", ["c2"], ["r2"], name="relu2"),
        helper.make_node("Add", ["r2", "p1"], ["skip"], name="add"),
        helper.make_node("GlobalAveragePool", ["skip"], ["g"], name="gap"),
        helper.make_node("Flatten", ["g"], ["f"], name="flatten"),
        helper.make_node("MatMul", ["f", "w3"], ["scores"], name="classify"),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", CLASSES])],
        [
            weight("w1", CHANNELS, 3, 3, 3),
            weight("w2", CHANNELS, CHANNELS, 3, 3),
            weight("w3", CHANNELS, CLASSES),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def whole_answers(path: Path, x: np.ndarray) -> np.ndarray:
    """What onnxruntime makes of it, without anything of ours."""
    session = load_onnxruntime().InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def lineage() -> Lineage:
    return Lineage(dataset="d", manifest_sha256="1" * 64, job_sha256="2" * 64, job_key="3" * 40)


def seal(folder: Path, signer: KeySigner, name: str, goldens: tuple[Golden, ...] = ()) -> Bundle:
    """Seal what lies in a folder as a bundle of that name."""
    inputs, outputs, opset = describe_onnx(folder / "model.onnx")
    manifest = BundleManifest(
        model=name,
        release=1,
        files=describe_files(folder),
        opset=opset,
        inputs=inputs,
        outputs=outputs,
        goldens=goldens,
        lineage=lineage(),
        created_at="2026-01-01T00:00:00Z",
    )
    return seal_bundle(folder, manifest, signer)


def make_whole(folder: Path, signer: KeySigner) -> Bundle:
    """Seal the whole model with a golden."""
    (folder / "golden").mkdir(parents=True)
    write_network(folder / "model.onnx")
    x = np.random.default_rng(1).random((2, 3, SIDE, SIDE)).astype("float32")
    (folder / "golden/in.npy").write_bytes(npy(x))
    (folder / "golden/out.npy").write_bytes(npy(whole_answers(folder / "model.onnx", x)))
    return seal(folder, signer, "small", (Golden(inputs="golden/in.npy", expected="golden/out.npy"),))


def make_sliced(folder: Path, model: Path, signer: KeySigner, *, leakage: float | None = None) -> SlicedModel:
    """Cut the model into three, seal each slice, and write ``sliced.json``."""
    cutter = Cutter(model)
    count = len(cutter.groups)
    ends = [0, 2, count - 3, count]
    entries = []
    for number, (start, end) in enumerate(itertools.pairwise(ends)):
        name = f"small-{number}"
        place = folder / name
        place.mkdir(parents=True)
        onnx.save(cutter.slice(start, end, None), place / "model.onnx")
        bundle = seal(place, signer, name)
        entries.append(
            ModelSlice(
                name=name,
                start=start,
                end=end,
                planned_as=number,
                places=(SlicePlace(device=f"device-{number}", zone=ZONES[number]),),
                inputs=bundle.manifest.inputs,
                outputs=bundle.manifest.outputs,
                sha256=sha256_file(place / "model.onnx"),
                size_bytes=(place / "model.onnx").stat().st_size,
                compute_seconds=1e-4,
                bundle=bundle.sha256,
                folder=name,
            )
        )
    document = SlicedModel(
        network="small",
        model_sha256=sha256_file(model),
        plan_sha256="4" * 64,
        batch_open=True,
        inputs=entries[0].inputs,
        outputs=entries[-1].outputs,
        slices=tuple(entries),
        transfers=tuple(transfers(entries, leakage)),
        proof=SliceProof(
            samples=1,
            source="synthetic",
            origin="a test",
            samples_sha256="5" * 64,
            outputs=(OutputProof(name="scores", largest_difference=0.0, range=1.0, relative=0.0),),
        ),
    )
    return write_document(folder, document, signer)


def transfers(entries: list[ModelSlice], leakage: float | None) -> list[SliceTransfer]:
    """What goes from each slice to each later one that reads it."""
    found = []
    for source, maker in enumerate(entries):
        for target in range(source + 1, len(entries)):
            made = {spec.name for spec in maker.outputs}
            names = tuple(spec.name for spec in entries[target].inputs if spec.name in made)
            if names:
                found.append(
                    SliceTransfer(
                        source=source, target=target, tensors=names, size_bytes=1, leakage_r2=leakage
                    )
                )
    return found


def write_document(folder: Path, document: SlicedModel, signer: KeySigner) -> SlicedModel:
    """Sign the document and write it."""
    digest = hashlib.sha256(documents.encode(msgspec.structs.replace(document, signature=None))).digest()
    document = msgspec.structs.replace(document, signature=base64.b64encode(signer.sign(digest)).decode())
    (folder / "sliced.json").write_bytes(documents.encode(document))
    return document
