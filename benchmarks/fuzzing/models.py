"""Models to be asked: small, and between them every datatype, a raw form, pictures, and values that are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from isthmus.inference.engine import OnnxEngine
from isthmus.inference.onnx_model import describe_onnx
from isthmus.inference.served import ServedModel
from isthmus.inference.service import ModelService
from isthmus.model.bundle import BundleManifest, Lineage, TensorSpec
from isthmus.model.processing import Affine, Reshape, Softmax, TopK

DATATYPES = {
    "BOOL": "BOOL", "UINT8": "UINT8", "UINT16": "UINT16", "UINT32": "UINT32", "UINT64": "UINT64", "INT8": "INT8",
    "INT16": "INT16", "INT32": "INT32", "INT64": "INT64", "FP16": "FLOAT16", "FP32": "FLOAT", "FP64": "DOUBLE",
    "BYTES": "STRING",
}  # fmt: skip
"""The protocol's name, and ONNX's."""

INPUTS = {
    "pictures": {"pixels": "UINT8", "x": "FP32"},
    "every": {name.lower(): name for name in DATATYPES},
    "lookup": {"index": "INT64"},
    "large": {"x": "FP32"},
    "pairs": {"x": "FP32"},
}
"""Model, input, datatype."""


def service(folder: Path, **limits: int) -> ModelService:
    """Return a service with all of them."""
    made = (_pictures, _every, _lookup, _large, _pairs)
    return ModelService([make(folder) for make in made], **limits)


def _pictures(folder: Path) -> ServedModel:
    """``logits [n, 3] = x [n, 64] @ w``, from 8 by 8 grey pixels, with labels: finite inputs can overflow it."""
    from onnx import helper

    nodes = [helper.make_node("MatMul", ["x", "w"], ["logits"])]
    weights = [[(row * column % 7) - 3.0 for column in range(3)] for row in range(64)]
    return _served(
        folder, "pictures", nodes, {"x": ("FLOAT", ["n", 64])}, {"logits": ("FLOAT", ["n", 3])}, {"w": weights},
        raw=TensorSpec(name="pixels", datatype="UINT8", shape=(-1, 8, 8)),
        preprocessing=(Reshape((64,)), Affine(scale=1 / 255)),
        postprocessing=(Softmax(), TopK(k=2, labels=("shirt", "shoe", "bag"))),
    )  # fmt: skip


def _every(folder: Path) -> ServedModel:
    """One output for each input, the same: takes NaN too."""
    from onnx import helper

    nodes = [helper.make_node("Identity", [name.lower()], [f"out_{name.lower()}"]) for name in DATATYPES]
    inputs = {name.lower(): (kind, ["n"]) for name, kind in DATATYPES.items()}
    outputs = {f"out_{name.lower()}": (kind, ["n"]) for name, kind in DATATYPES.items()}
    return _served(folder, "every", nodes, inputs, outputs, {}, allow_nan=True)


def _lookup(folder: Path) -> ServedModel:
    """``y [n, 2] = table[index]``: the engine itself refuses an index that is out of range."""
    from onnx import helper

    nodes = [helper.make_node("Gather", ["table", "index"], ["y"], axis=0)]
    table = [[float(row), -float(row)] for row in range(5)]
    return _served(
        folder, "lookup", nodes, {"index": ("INT64", ["n"])}, {"y": ("FLOAT", ["n", 2])}, {"table": table}
    )


def _large(folder: Path) -> ServedModel:
    """``y [n, 2000] = x [n, 1] @ w``: an answer two thousand times as large as the request."""
    from onnx import helper

    nodes = [
        helper.make_node("Unsqueeze", ["x", "axis"], ["column"]),
        helper.make_node("MatMul", ["column", "w"], ["y"]),
    ]
    weights = [[float(column) for column in range(2000)]]
    return _served(
        folder,
        "large",
        nodes,
        {"x": ("FLOAT", ["n"])},
        {"y": ("FLOAT", ["n", 2000])},
        {"w": weights, "axis": [1]},
    )


def _pairs(folder: Path) -> ServedModel:
    """``y [n / 2, 2]``: an odd number of values has no such shape, which only the engine finds out."""
    from onnx import helper

    nodes = [helper.make_node("Reshape", ["x", "axis"], ["y"])]
    return _served(
        folder, "pairs", nodes, {"x": ("FLOAT", ["n"])}, {"y": ("FLOAT", ["m", 2])}, {"axis": [-1, 2]}
    )


def _served(
    folder: Path,
    name: str,
    nodes: list[Any],
    inputs: dict[str, tuple[str, list[Any]]],
    outputs: dict[str, tuple[str, list[Any]]],
    constants: dict[str, Any],
    **more: Any,
) -> ServedModel:
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def described(tensors: dict[str, tuple[str, list[Any]]]) -> list[Any]:
        return [
            helper.make_tensor_value_info(tensor, getattr(TensorProto, kind), shape)
            for tensor, (kind, shape) in tensors.items()
        ]

    held = [
        numpy_helper.from_array(np.array(value, np.int64 if tensor == "axis" else np.float32), tensor)
        for tensor, value in constants.items()
    ]
    graph = helper.make_graph(nodes, name, described(inputs), described(outputs), held)
    path = folder / f"{name}.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    found, given, opset = describe_onnx(path)
    manifest = BundleManifest(
        model=name,
        release=1,
        files=(),
        opset=opset,
        inputs=found,
        outputs=given,
        lineage=Lineage(dataset="d", manifest_sha256="1" * 64, job_sha256="2" * 64, job_key="3" * 40),
        created_at="2026-01-01T00:00:00Z",
        **more,
    )
    return ServedModel(manifest, OnnxEngine(path))
