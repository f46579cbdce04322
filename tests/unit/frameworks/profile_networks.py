"""Small ONNX models for profiles, written with onnx's own helpers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET, IR_VERSION = 17, 8
Dims = Sequence[int | str]


def weights(name: str, *shape: int) -> onnx.TensorProto:
    """Return random weights, the same in every run."""
    random = np.random.default_rng(len(name))
    return numpy_helper.from_array(random.standard_normal(shape).astype("float32"), name)


def value(name: str, shape: Dims | None, element: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    """Return an input or output."""
    return helper.make_tensor_value_info(name, element, shape)


def save(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    initializers: Sequence[onnx.TensorProto] = (),
) -> Path:
    """Write a model; return its path."""
    graph = helper.make_graph(nodes, path.stem, inputs, outputs, list(initializers))
    domains = [helper.make_opsetid("", OPSET)]
    onnx.save(helper.make_model(graph, opset_imports=domains, ir_version=IR_VERSION), str(path))
    return path


def residual(path: Path) -> Path:
    """Two convolutions with an addition and activations, pooled and classified; open batch, 16 x 16 images."""
    conv = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["image", "w1", "b1"], ["c1"], name="first", **conv),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], name="second", **conv),
        helper.make_node("Add", ["r1", "c2"], ["sum"]),
        helper.make_node("Relu", ["sum"], ["r2"]),
        helper.make_node("GlobalAveragePool", ["r2"], ["pooled"], name="pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], name="flatten"),
        helper.make_node("Gemm", ["flat", "w3", "b3"], ["scores"], name="classify"),
    ]
    held = [weights("w1", 32, 3, 3, 3), weights("b1", 32), weights("w2", 32, 32, 3, 3), weights("b2", 32)]
    held += [weights("w3", 32, 10), weights("b3", 10)]
    return save(path, nodes, [value("image", ["batch", 3, 16, 16])], [value("scores", ["batch", 10])], held)


def tied(path: Path) -> Path:
    """A table of words that is read at both ends, and a small constant that two operators share."""
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["words"], name="embed"),
        helper.make_node("Mul", ["words", "small"], ["m1"], name="scale1"),
        helper.make_node("Sigmoid", ["m1"], ["s1"], name="gate"),
        helper.make_node("Mul", ["s1", "small"], ["m2"], name="scale2"),
        helper.make_node("Gather", ["table", "more"], ["others"], name="embed2"),
        helper.make_node("Add", ["m2", "others"], ["out"], name="join"),
    ]
    inputs = [value(name, ["batch", 8], TensorProto.INT64) for name in ("ids", "more")]
    held = [weights("table", 100, 32), weights("small", 32)]
    return save(path, nodes, inputs, [value("out", ["batch", 8, 32])], held)


def branching(path: Path) -> Path:
    """An If whose branches read the raw input ``x``, ``h`` and the weights ``w3``, which it does not list."""

    def branch(name: str, kind: str) -> onnx.GraphProto:
        nodes = [
            helper.make_node("MatMul", ["h", "w3"], [f"{name}_h"]),
            helper.make_node(kind, ["x", f"{name}_h"], [f"{name}_out"]),
        ]
        return helper.make_graph(nodes, name, [], [value(f"{name}_out", ["batch", 64])])

    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["h"], name="first"),
        helper.make_node("ReduceMax", ["h"], ["most"], name="most", keepdims=0),
        helper.make_node("Cast", ["most"], ["cond"], name="ask", to=TensorProto.BOOL),
        helper.make_node(
            "If", ["cond"], ["z"], name="if", then_branch=branch("t", "Add"), else_branch=branch("e", "Mul")
        ),
        helper.make_node("MatMul", ["z", "w2"], ["y"], name="last"),
    ]
    held = [weights(name, 64, 64) for name in ("w1", "w2", "w3")]
    return save(path, nodes, [value("x", ["batch", 64])], [value("y", ["batch", 64])], held)
