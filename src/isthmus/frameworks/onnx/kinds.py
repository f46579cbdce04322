"""What an operator computes: floating point operations, and the class and sizes by which its time is known.

A class holds operators whose time depends on the same few sizes, because one kernel runs them. Where a
kernel treats samples as more rows, the batch multiplies an axis; where it loops over them, it multiplies seconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Dims = tuple[int, ...]


@dataclass(frozen=True)
class Node:
    """A node with what it needs to be weighed: shapes are for one sample, ``()`` where not known.

    ``weights``: which inputs are initializers. ``attributes``: by name, as Python values.
    """

    kind: str
    inputs: tuple[Dims, ...]
    weights: tuple[bool, ...]
    outputs: tuple[Dims, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Work:
    """``flops`` of one sample; see :class:`isthmus.model.network.Operator` for the others."""

    rate_class: str
    flops: float = 0.0
    sizes: Mapping[str, float] = field(default_factory=dict)
    batch_axis: str = ""


VIEWS = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze", "Dropout"})
COPIES = frozenset({"Concat", "Expand", "Pad", "Slice", "Split", "Tile", "Cast", "Resize", "DepthToSpace"})
CHEAP = frozenset({"Abs", "Ceil", "Clip", "Floor", "LeakyRelu", "Neg", "Not", "PRelu", "Relu", "HardSigmoid"})
BINARY = frozenset(
    {"Add", "Div", "Max", "Min", "Mul", "Sub", "Where", "Equal", "Greater", "Less", "And", "Or"}
)
GELUS = frozenset({"BiasGelu", "FastGelu", "Gelu", "QuickGelu"})
COSTLY = frozenset(
    {"Elu", "Erf", "Exp", "HardSwish", "Log", "Mish", "Pow", "Selu", "Sigmoid", "Softplus", "Sqrt", "Tanh"}
)
MATMULS = frozenset({"Gemm", "MatMul", "FusedMatMul", "FusedGemm"})
NORMS = frozenset({"LayerNormalization", "SkipLayerNormalization", "SimplifiedLayerNormalization"})
POOLS = frozenset({"MaxPool", "AveragePool"})
REDUCTIONS = ("Reduce", "ArgM")
FLOPS = {"gelu": 12.0, "costly": 8.0, "softmax": 5.0, "norm": 8.0}
"""An element, of functions that kernels approximate by polynomials: a convention, as vendors' differ."""
LONG_RUN = 128
"""Elements that lie together: copying does not get faster by longer runs."""
SHALLOW = 16
"""A convolution of fewer input channels reads images as they are (MLAS, ``nchwc``: one block of channels)."""


def weigh(node: Node) -> Work:
    """Return what a node computes; class ``other`` for what is not known here."""
    for kinds, rule in RULES:
        if node.kind in kinds:
            return rule(node)
    if node.kind.startswith(REDUCTIONS):
        return _elements("reduce", node.inputs[0], 1.0)
    return _elements("other", node.outputs[0], 1.0)


def _size(dims: Dims) -> int:
    return math.prod(dims)


def _elements(rate_class: str, dims: Dims, flops: float) -> Work:
    count = float(_size(dims))
    return Work(rate_class, flops * count, {"elements": count}, "elements")


def _conv(node: Node) -> Work:
    """Convolution: 2 x taps x outputs, taps being the weights of one output channel (and a bias)."""
    weights, out = node.inputs[1], node.outputs[0]
    taps, channels, pixels = _size(weights[1:]), out[1], _size(out[2:])
    bias = _size(out) if len(node.inputs) > 2 and node.inputs[2] else 0
    flops = 2.0 * taps * _size(out) + bias
    into, groups = node.inputs[0][1], int(node.attributes.get("group", 1))
    kernel = "x".join(str(size) for size in weights[2:])
    stride = max(node.attributes.get("strides", [1]))
    sizes = {"in": into / groups, "out": float(channels), "pixels": float(pixels), "taps": float(taps)}
    if len(weights) != 4 or max(node.attributes.get("dilations", [1])) > 1:
        return Work("conv/other", flops, sizes)
    if groups == into == channels:
        return Work(f"conv/depthwise/{kernel}/{stride}", flops, sizes)
    if groups > 1:
        return Work("conv/grouped", flops, sizes | {"groups": float(groups)})
    if into < SHALLOW:
        return Work(f"conv/shallow/{stride}", flops, sizes)
    return Work(f"conv/{kernel}/{stride}", flops, sizes)


def _matmul(node: Node) -> Work:
    """Matrix product: 2 x rows x in x out. With weights, samples are more rows; without, more products."""
    out = node.outputs[0]
    left, right = node.inputs[0], node.inputs[1]
    into = _inner(node, left)
    flops = 2.0 * into * _size(out)
    if len(node.inputs) > 2 and node.inputs[2]:
        flops += _size(out)
    if node.weights[1] and len(right) == 2:
        return Work("matmul/weights", flops, {"rows": _size(out[:-1]), "in": into, "out": out[-1]}, "rows")
    rows = out[-2] if len(out) > 1 else 1
    products = _size(out[:-2])
    sizes = {"products": products, "rows": rows, "in": into, "out": out[-1]}
    return Work("matmul/batched", flops, sizes, "products")


def _inner(node: Node, left: Dims) -> int:
    transposed = node.attributes.get("transA", 0)
    return left[-2] if transposed and len(left) > 1 else left[-1]


def _softmax(node: Node) -> Work:
    dims = node.inputs[0]
    axis = int(node.attributes.get("axis", -1))
    columns = dims[axis] if dims else 1
    sizes = {"rows": _size(dims) / max(columns, 1), "columns": float(columns)}
    return Work("softmax", FLOPS["softmax"] * _size(dims), sizes, "rows")


def _norm(node: Node) -> Work:
    dims = node.inputs[0]
    axis = -1 if node.kind.startswith("Skip") else int(node.attributes.get("axis", -1))
    columns = _size(dims[axis:])
    rate = "norm/skip" if node.kind.startswith("Skip") else "norm"
    return Work(
        rate, FLOPS["norm"] * _size(dims), {"rows": _size(dims) / columns, "columns": columns}, "rows"
    )


def _binary(node: Node) -> Work:
    """Elementwise on two arrays; of weights on one side, or of one value, kernels are others."""
    full = sum(dims == node.outputs[0] for dims in node.inputs)
    return _elements("binary" if full > 1 else "binary/broadcast", node.outputs[0], 1.0)


def _transpose(node: Node) -> Work:
    """Copying: whole runs of elements where the last axis stays, single ones where it moves."""
    dims, rank = node.inputs[0], len(node.inputs[0])
    order = node.attributes.get("perm", tuple(reversed(range(rank))))
    stays = bool(order) and order[-1] == rank - 1
    run = float(min(dims[-1], LONG_RUN)) if dims else 1.0
    sizes = {"elements": float(_size(dims)), "run": run}
    return Work("transpose/runs" if stays else "transpose/elements", 0.0, sizes, "elements")


def _pool(node: Node) -> Work:
    out = node.outputs[0]
    taps = math.prod(node.attributes.get("kernel_shape", [1]))
    sizes = {"channels": float(out[1]), "pixels": float(_size(out[2:])), "taps": float(taps)}
    return Work("pool", float(taps * _size(out)), sizes)


def _global_pool(node: Node) -> Work:
    dims = node.inputs[0]
    sizes = {"channels": float(dims[1]), "pixels": float(_size(dims[2:]))}
    return Work("pool/global", float(_size(dims)), sizes)


def _gather(node: Node) -> Work:
    out = node.outputs[0]
    run = float(out[-1]) if len(out) > 1 else 1.0
    return Work("gather", 0.0, {"rows": _size(out) / max(run, 1.0), "columns": run}, "rows")


def _copy(node: Node) -> Work:
    count = float(sum(_size(dims) for dims in node.outputs))
    return Work("copy", 0.0, {"elements": count}, "elements")


def _of_output(rate_class: str, flops: float) -> Callable[[Node], Work]:
    return lambda node: _elements(rate_class, node.outputs[0], flops)


RULES: Sequence[tuple[frozenset[str], Callable[[Node], Work]]] = (
    (frozenset({"Conv", "FusedConv"}), _conv),
    (MATMULS, _matmul),
    (frozenset({"Softmax", "LogSoftmax"}), _softmax),
    (NORMS, _norm),
    (BINARY, _binary),
    (frozenset({"Transpose"}), _transpose),
    (POOLS, _pool),
    (frozenset({"GlobalAveragePool", "GlobalMaxPool"}), _global_pool),
    (frozenset({"Gather"}), _gather),
    (VIEWS, lambda node: Work("view")),
    (frozenset({"Shape", "Constant", "ConstantOfShape"}), lambda node: Work("view")),
    (COPIES, _copy),
    (CHEAP, _of_output("unary", 1.0)),
    (GELUS, _of_output("unary/gelu", FLOPS["gelu"])),
    (COSTLY, _of_output("unary/costly", FLOPS["costly"])),
)
