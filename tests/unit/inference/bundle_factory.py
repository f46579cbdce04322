"""Real bundles in miniature: an ONNX linear classifier, sealed with a fresh P-256 key."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from onnx import TensorProto, helper, numpy_helper

from isthmus.inference.bundle import Bundle, describe_files, seal_bundle
from isthmus.inference.onnx_model import describe_onnx
from isthmus.model.bundle import BundleManifest, Golden, Lineage, TensorSpec
from isthmus.model.processing import Affine, Reshape, Softmax, TopK

WEIGHTS = np.arange(12, dtype=np.float32).reshape(4, 3) / 10
LABELS = ("shirt", "shoe", "bag")


class KeySigner:
    """``ports.Signer`` with a key in memory."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())

    def sign(self, digest: bytes) -> bytes:
        return self._key.sign(digest, ec.ECDSA(Prehashed(SHA256())))

    def public_key(self) -> bytes:
        return self._key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def write_linear_model(path: Path, weights: np.ndarray = WEIGHTS) -> None:
    """``logits [n, 3] = x [n, 4] @ weights``."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["logits"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(weights, "w")],
    )
    save(graph, path)


def write_identity_model(path: Path, tensors: dict[str, int], shape: list[Any]) -> None:
    """One output ``out_<name>`` for each input ``<name>``, of the same ONNX type."""
    graph = helper.make_graph(
        [helper.make_node("Identity", [name], [f"out_{name}"]) for name in tensors],
        "identity",
        [helper.make_tensor_value_info(name, kind, shape) for name, kind in tensors.items()],
        [helper.make_tensor_value_info(f"out_{name}", kind, shape) for name, kind in tensors.items()],
    )
    save(graph, path)


def save(graph: Any, path: Path) -> None:
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def make_bundle(
    folder: Path,
    signer: KeySigner,
    *,
    release: int = 1,
    weights: np.ndarray = WEIGHTS,
    write: Callable[[Path], None] | None = None,
    **changes: Any,
) -> Bundle:
    """Seal a bundle whose raw form is ``UINT8 [n, 2, 2]``; its golden is right unless ``expected`` is given.

    ``write`` writes another model than the linear one.
    """
    (folder / "golden").mkdir(parents=True)
    if write is None:
        write_linear_model(folder / "model.onnx", weights)
    else:
        write(folder / "model.onnx")
    inputs, outputs, opset = describe_onnx(folder / "model.onnx")
    pixels = np.array([[[0, 51], [102, 255]], [[255, 0], [0, 0]]], np.uint8)
    expected = changes.pop("expected", (pixels.reshape(2, 4).astype(np.float32) / 255) @ weights)
    (folder / "golden/0-in.npy").write_bytes(npy(pixels))
    (folder / "golden/0-out.npy").write_bytes(npy(expected))
    manifest = BundleManifest(
        model="fashion",
        release=release,
        files=describe_files(folder),
        opset=opset,
        inputs=inputs,
        outputs=outputs,
        raw=TensorSpec(name="pixels", datatype="UINT8", shape=(-1, 2, 2)),
        preprocessing=(Reshape((4,)), Affine(scale=1 / 255)),
        postprocessing=(Softmax(), TopK(k=2, labels=LABELS)),
        goldens=(Golden(inputs="golden/0-in.npy", expected="golden/0-out.npy"),),
        lineage=Lineage(dataset="fashion", manifest_sha256="1" * 64, job_sha256="2" * 64, job_key="3" * 40),
        created_at="2026-01-01T00:00:00Z",
    )
    return seal_bundle(folder, msgspec.structs.replace(manifest, **changes), signer)
