"""Real networks with random weights, as a framework's exporter would write them (opset 17, open batch).

Architectures: MobileNet-v2 (Sandler et al. 2018, table 2), ResNet-18 (He et al. 2016, table 1), and BERT-small
(Turc et al. 2019: 4 layers of 512, 8 heads) for sequences of 128.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET, IR_VERSION = 17, 8
SEQUENCE, HIDDEN, HEADS, LAYERS, VOCABULARY = 128, 512, 8, 4, 8000


class Builder:
    """Adds nodes to a graph, and returns the names of their outputs."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def node(self, kind: str, *inputs: str, **attributes: object) -> str:
        """Add a node with one output."""
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [f"{name}_out"], name=name, **attributes))
        return f"{name}_out"

    def constant(self, array: np.ndarray) -> str:
        """Add an initializer."""
        name = f"weight_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def normal(self, *shape: int) -> str:
        """Add random weights of unit gain, so that activations neither vanish nor overflow."""
        fan_in = int(np.prod(shape[1:])) if len(shape) == 4 else shape[0]
        return self.constant((self.random.standard_normal(shape) * fan_in**-0.5).astype("float32"))

    def fill(self, value: float, size: int) -> str:
        """Add a vector."""
        return self.constant(np.full(size, value, "float32"))

    def model(
        self, name: str, inputs: Sequence[onnx.ValueInfoProto], output: str, rank: int
    ) -> onnx.ModelProto:
        """Return the model, with its output's shape left to inference but for the batch."""
        result = helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", *[None] * (rank - 1)])
        graph = helper.make_graph(self.nodes, name, inputs, [result], self.weights)
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name=name
        )


class Images(Builder):
    """Blocks of convolutional networks."""

    def conv(
        self, x: str, out: int, into: int, kernel: int, *, stride: int = 1, groups: int = 1, after: str = ""
    ) -> str:
        """Convolution, batch normalization, and ``Relu``, ``Clip`` (to 6) or nothing."""
        pad = kernel // 2
        weights = self.normal(out, into // groups, kernel, kernel)
        x = self.node(
            "Conv",
            x,
            weights,
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[pad] * 4,
            group=groups,
        )
        statistics = [self.fill(value, out) for value in (1.0, 0.1, 0.0, 1.0)]
        x = self.node("BatchNormalization", x, *statistics, epsilon=1e-5)
        if after == "Clip":
            limits = [self.constant(np.array(value, "float32")) for value in (0, 6)]
            return self.node("Clip", x, *limits)
        return self.node(after, x) if after else x

    def classify(self, x: str, into: int, classes: int = 1000) -> str:
        """Global average pooling and a linear layer."""
        x = self.node("Flatten", self.node("GlobalAveragePool", x), axis=1)
        return self.node("Gemm", x, self.normal(into, classes), self.fill(0.0, classes))


def mobilenet_v2(size: int = 224) -> onnx.ModelProto:
    """Return MobileNet-v2, width 1.0."""
    net = Images(1)
    x = net.conv("image", 32, 3, 3, stride=2, after="Clip")
    into = 32
    rows = [
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ]
    for expansion, out, repeats, first_stride in rows:
        for index in range(repeats):
            stride = first_stride if index == 0 else 1
            wide = into * expansion
            y = x if expansion == 1 else net.conv(x, wide, into, 1, after="Clip")
            y = net.conv(y, wide, wide, 3, stride=stride, groups=wide, after="Clip")
            y = net.conv(y, out, wide, 1)
            x = net.node("Add", x, y) if stride == 1 and into == out else y
            into = out
    x = net.conv(x, 1280, into, 1, after="Clip")
    return net.model("mobilenet_v2", [_image(size)], net.classify(x, 1280), 2)


def resnet_18(size: int = 224) -> onnx.ModelProto:
    """Return ResNet-18."""
    net = Images(2)
    x = net.conv("image", 64, 3, 7, stride=2, after="Relu")
    x = net.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    into = 64
    for stage, out in enumerate((64, 128, 256, 512)):
        for block in range(2):
            stride = 2 if stage and not block else 1
            y = net.conv(x, out, into, 3, stride=stride, after="Relu")
            y = net.conv(y, out, out, 3)
            same = x if into == out else net.conv(x, out, into, 1, stride=stride)
            x = net.node("Relu", net.node("Add", y, same))
            into = out
    return net.model("resnet_18", [_image(size)], net.classify(x, 512), 2)


def bert_small(sequence: int = SEQUENCE, layers: int = LAYERS) -> onnx.ModelProto:
    """Return BERT-small's encoder: token ids to the last hidden state."""
    net = Builder(3)
    words = net.node("Gather", net.normal(VOCABULARY, HIDDEN), "input_ids")
    positions = net.constant(net.random.standard_normal((1, sequence, HIDDEN)).astype("float32"))
    x = _normalize(net, net.node("Add", words, positions))
    for _ in range(layers):
        x = _normalize(net, net.node("Add", _attention(net, x), x))
        y = _gelu(net, _linear(net, x, HIDDEN, 4 * HIDDEN))
        x = _normalize(net, net.node("Add", _linear(net, y, 4 * HIDDEN, HIDDEN), x))
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", sequence])
    return net.model("bert_small", [ids], x, 3)


def vit_tiny(size: int = 224, hidden: int = 192, layers: int = 12, heads: int = 3) -> onnx.ModelProto:
    """Return ViT-Tiny of 16 x 16 patches (Touvron et al. 2021, table 1), pooled by the mean (Beyer et al. 2022)."""
    net = Images(4)
    patches = (size // 16) ** 2
    x = net.node("Conv", "image", net.normal(hidden, 3, 16, 16), kernel_shape=[16, 16], strides=[16, 16])
    x = net.node("Reshape", x, net.constant(np.array([0, 0, -1], "int64")))
    x = net.node("Transpose", x, perm=[0, 2, 1])
    places = net.constant(net.random.standard_normal((1, patches, hidden)).astype("float32"))
    x = net.node("Add", x, places)
    for _ in range(layers):
        x = net.node("Add", _attention(net, _normalize(net, x, hidden), hidden, heads), x)
        y = _gelu(net, _linear(net, _normalize(net, x, hidden), hidden, 4 * hidden))
        x = net.node("Add", _linear(net, y, 4 * hidden, hidden), x)
    x = net.node("ReduceMean", _normalize(net, x, hidden), axes=[1], keepdims=0)
    return net.model("vit_tiny", [_image(size)], _linear(net, x, hidden, 1000), 2)


NETWORKS: dict[str, Callable[[], onnx.ModelProto]] = {
    "mobilenet_v2": mobilenet_v2,
    "resnet_18": resnet_18,
    "bert_small": bert_small,
}
OTHERS: dict[str, Callable[[], onnx.ModelProto]] = {"vit_tiny": vit_tiny}
"""For a benchmark of its own."""


def write(name: str, folder: Path) -> Path:
    """Write one of ``NETWORKS`` or ``OTHERS`` to ``folder``; return the file."""
    path = folder / f"{name}.onnx"
    onnx.save({**NETWORKS, **OTHERS}[name](), str(path))
    return path


def _image(size: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, size, size])


def _linear(net: Builder, x: str, into: int, out: int) -> str:
    return net.node("Add", net.fill(0.0, out), net.node("MatMul", x, net.normal(into, out)))


def _normalize(net: Builder, x: str, hidden: int = HIDDEN) -> str:
    return net.node(
        "LayerNormalization", x, net.fill(1.0, hidden), net.fill(0.0, hidden), axis=-1, epsilon=1e-12
    )


def _gelu(net: Builder, x: str) -> str:
    """Gelu by the error function, as exporters write it below opset 20."""
    root, one, half = (net.constant(np.array(value, "float32")) for value in (2**0.5, 1.0, 0.5))
    y = net.node("Add", net.node("Erf", net.node("Div", x, root)), one)
    return net.node("Mul", net.node("Mul", x, y), half)


def _attention(net: Builder, x: str, hidden: int = HIDDEN, count: int = HEADS) -> str:
    split = net.constant(np.array([0, 0, count, hidden // count], "int64"))
    merge = net.constant(np.array([0, 0, hidden], "int64"))
    heads = [net.node("Reshape", _linear(net, x, hidden, hidden), split) for _ in range(3)]
    query, value = (net.node("Transpose", heads[i], perm=[0, 2, 1, 3]) for i in (0, 2))
    key = net.node("Transpose", heads[1], perm=[0, 2, 3, 1])
    scale = net.constant(np.array((hidden // count) ** 0.5, "float32"))
    scores = net.node("Div", net.node("MatMul", query, key), scale)
    mixed = net.node("MatMul", net.node("Softmax", scores, axis=-1), value)
    merged = net.node("Reshape", net.node("Transpose", mixed, perm=[0, 2, 1, 3]), merge)
    return _linear(net, merged, hidden, hidden)
