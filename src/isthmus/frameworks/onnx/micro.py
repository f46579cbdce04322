"""Models of a single operator, to measure how long a machine takes for one of given sizes.

Each is written as the optimised graph of a network would hold it, by ``isthmus.frameworks.onnx.kinds``' classes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from isthmus.frameworks.onnx.read import load_onnx

if TYPE_CHECKING:
    import onnx

OPSET, IR_VERSION = 17, 8
EVICTING_BYTES = 2**23
Sizes = Mapping[str, int]


@dataclass(frozen=True)
class Micro:
    """``kind``: the operator to time, as onnxruntime names it; ``feeds``: float32 and int64 inputs by name."""

    model: onnx.ModelProto
    kind: str
    feeds: dict[str, Any]
    elements: tuple[int, int] = (0, 0)
    """Of a convolution's input and of its output."""


def micro(rate_class: str, sizes: Sizes) -> Micro:
    """Return the model for one operator of a class (of those in ``BUILDERS``, by the longest prefix)."""
    parts = rate_class.split("/")
    for length in range(len(parts), 0, -1):
        builder = BUILDERS.get("/".join(parts[:length]))
        if builder is not None:
            return builder(parts, sizes)
    raise KeyError(rate_class)


def chain(length: int) -> onnx.ModelProto:
    """Return a model of ``length`` operators on one number each: what is left are a run's and a node's own costs."""
    helper, kind = load_onnx().helper, load_onnx().TensorProto.FLOAT
    nodes = [helper.make_node("Erf", [f"x{i}"], [f"x{i + 1}"]) for i in range(length)]
    ends = [helper.make_tensor_value_info(f"x{i}", kind, [1]) for i in (0, length)]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:])
    domains = [helper.make_opsetid("", OPSET)]
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=domains, ir_version=IR_VERSION)
    return model


class _Graph:
    """Collects inputs, weights and the node to time; values are the same in every run.

    Within a network an operator finds its weights and its output's memory outside of the nearest caches, and
    its input inside, just written. So a model first reads ``EVICTING`` bytes, then writes the input (adding
    zero), runs the operator, and reads its result, which would else be memory new to the process.
    """

    def __init__(self) -> None:
        import numpy as np

        self.random = np.random.default_rng(7)
        self._block = self.random.standard_normal(2**12, dtype=np.float32) * np.float32(0.1)
        self.feeds: dict[str, Any] = {"evicting": np.zeros(EVICTING_BYTES // 4, np.float32)}
        self.weights: list[onnx.TensorProto] = []
        self.nodes = [self._node("ReduceMax", ["evicting"], "zero", keepdims=0)]

    def _node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
        node: onnx.NodeProto = load_onnx().helper.make_node(kind, inputs, [output], name=output, **attributes)
        return node

    def _normal(self, shape: tuple[int, ...]) -> Any:
        # A block again and again: kernels do not look at values, and drawing millions takes longer than running.
        import numpy as np

        return np.resize(self._block, shape)

    def data(self, *shape: int) -> str:
        return self.fresh(self._normal(shape), "zero")

    def fresh(self, array: Any, zero: str) -> str:
        name = f"x{len(self.feeds)}"
        self.feeds[name] = array
        self.nodes.append(self._node("Add", [name, zero], f"{name}_fresh"))
        return f"{name}_fresh"

    def numbers(self, most: int, *shape: int) -> str:
        self.nodes.append(self._node("Cast", ["zero"], "none", to=load_onnx().TensorProto.INT64))
        return self.fresh(self.random.integers(0, most, shape), "none")

    def weight(self, *shape: int) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(load_onnx().numpy_helper.from_array(self._normal(shape), name))
        return name

    def _read_result(self, name: str) -> None:
        # Flat: the maximum of a transposed array is that of the array, which onnxruntime knows.
        import numpy as np

        self.weights.append(load_onnx().numpy_helper.from_array(np.array([-1]), "flat"))
        self.nodes.append(self._node("Reshape", [name, "flat"], "flattened"))
        self.nodes.append(self._node("ReduceMax", ["flattened"], "y", keepdims=0))

    def done(self, kind: str, inputs: list[str], *, after: str = "", **attributes: Any) -> Micro:
        """``after``: an activation that is fused with the operator."""
        helper = load_onnx().helper
        self.nodes.append(self._node(kind, inputs, "made", **attributes))
        if after:
            self.nodes.append(self._node(after, ["made"], "timed"))
        self._read_result("timed" if after else "made")
        values = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in self.feeds.items()
        ]
        result = helper.make_tensor_value_info("y", load_onnx().TensorProto.FLOAT, [])
        graph = helper.make_graph(self.nodes, "micro", values, [result], self.weights)
        domains = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=domains, ir_version=IR_VERSION)
        return Micro(model, kind, self.feeds)


def _side(pixels: int) -> int:
    return max(1, math.isqrt(pixels))


def _conv(parts: list[str], sizes: Sizes) -> Micro:
    """``conv/3x3/1``, ``conv/depthwise/3x3/2``, ``conv/shallow/2`` (square pictures and kernels)."""
    graph = _Graph()
    depthwise = parts[1] == "depthwise"
    out, stride, side = sizes["out"], int(parts[-1]), _side(sizes["pixels"]) * int(parts[-1])
    into = out if depthwise else sizes["in"]
    groups = into if depthwise else 1
    kernel = _side(sizes["taps"] // into) if parts[1] == "shallow" else int(parts[-2].split("x")[0])
    x = graph.data(1, into, side, side)
    weights, bias = graph.weight(out, into // groups, kernel, kernel), graph.weight(out)
    conv = graph.done(
        "Conv",
        [x, weights, bias],
        after="Relu",
        kernel_shape=[kernel] * 2,
        strides=[stride] * 2,
        pads=[kernel // 2] * 4,
        group=groups,
    )
    return dataclasses.replace(conv, elements=(into * side**2, out * _side(sizes["pixels"]) ** 2))


def _matmul(parts: list[str], sizes: Sizes) -> Micro:
    graph = _Graph()
    if parts[-1] == "weights":
        return graph.done(
            "MatMul", [graph.data(sizes["rows"], sizes["in"]), graph.weight(sizes["in"], sizes["out"])]
        )
    left = graph.data(1, sizes["products"], sizes["rows"], sizes["in"])
    return graph.done("MatMul", [left, graph.data(1, sizes["products"], sizes["in"], sizes["out"])])


def _softmax(parts: list[str], sizes: Sizes) -> Micro:
    graph = _Graph()
    return graph.done("Softmax", [graph.data(sizes["rows"], sizes["columns"])], axis=-1)


def _norm(parts: list[str], sizes: Sizes) -> Micro:
    graph, columns = _Graph(), sizes["columns"]
    x = graph.data(1, sizes["rows"], columns)
    if parts[-1] == "skip":
        skip, scale, shift, bias = (
            graph.data(1, sizes["rows"], columns),
            *(graph.weight(columns) for _ in "abc"),
        )
        return graph.done(
            "SkipLayerNormalization", [x, skip, scale, shift, bias], domain="com.microsoft", epsilon=1e-5
        )
    return graph.done("LayerNormalization", [x, graph.weight(columns), graph.weight(columns)], axis=-1)


COLUMNS = 512
"""Of elementwise micro-benchmarks; the time depends on the elements alone."""


def _elements(kind: str, second: str = "", domain: str = "") -> Callable[[list[str], Sizes], Micro]:
    """``second``: ``data`` of the same shape, or ``weight`` along the last axis."""

    def build(parts: list[str], sizes: Sizes) -> Micro:
        graph, rows = _Graph(), max(1, sizes["elements"] // COLUMNS)
        inputs = [graph.data(1, rows, COLUMNS)]
        if second:
            inputs.append(graph.data(1, rows, COLUMNS) if second == "data" else graph.weight(COLUMNS))
        return graph.done(kind, inputs, domain=domain)

    return build


def _transpose(parts: list[str], sizes: Sizes) -> Micro:
    """Attention's two: heads before rows, and the same with each head's matrix turned."""
    graph, run = _Graph(), sizes["run"]
    heads = 8
    rows = max(1, sizes["elements"] // run // heads)
    perm = [0, 2, 1, 3] if parts[-1] == "runs" else [0, 2, 3, 1]
    return graph.done("Transpose", [graph.data(1, rows, heads, run)], perm=perm)


def _pool(parts: list[str], sizes: Sizes) -> Micro:
    graph = _Graph()
    if parts[-1] == "global":
        side = _side(sizes["pixels"])
        return graph.done("GlobalAveragePool", [graph.data(1, sizes["channels"], side, side)])
    kernel, side = _side(sizes["taps"]), 2 * _side(sizes["pixels"])
    x = graph.data(1, sizes["channels"], side, side)
    pads = [(kernel - 1) // 2] * 4
    return graph.done("MaxPool", [x], kernel_shape=[kernel] * 2, strides=[2, 2], pads=pads)


def _gather(parts: list[str], sizes: Sizes) -> Micro:
    graph = _Graph()
    table = graph.weight(8192, sizes["columns"])
    return graph.done("Gather", [table, graph.numbers(8192, 1, sizes["rows"])])


def _copy(parts: list[str], sizes: Sizes) -> Micro:
    graph, rows = _Graph(), max(1, sizes["elements"] // COLUMNS // 2)
    return graph.done("Concat", [graph.data(1, rows, COLUMNS), graph.data(1, rows, COLUMNS)], axis=1)


def _reduce(parts: list[str], sizes: Sizes) -> Micro:
    graph, rows = _Graph(), max(1, sizes["elements"] // COLUMNS)
    return graph.done("ReduceMean", [graph.data(1, rows, COLUMNS)], axes=[-1])


BUILDERS: dict[str, Callable[[list[str], Sizes], Micro]] = {
    "conv": _conv,
    "matmul": _matmul,
    "softmax": _softmax,
    "norm": _norm,
    "unary": _elements("Relu"),
    "unary/gelu": _elements("BiasGelu", "weight", "com.microsoft"),
    "unary/costly": _elements("Erf"),
    "binary": _elements("Add", "data"),
    "binary/broadcast": _elements("Add", "weight"),
    "transpose": _transpose,
    "pool": _pool,
    "gather": _gather,
    "copy": _copy,
    "reduce": _reduce,
}
