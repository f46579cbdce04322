"""Networks over scikit-learn's digits (1,797 images of 8 by 8), small enough to measure in a test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits


def digits() -> tuple[Any, Any]:
    """Pixels in [0, 1], float32 ``[1797, 64]``, and the digits."""
    found = load_digits()
    return (found.data / 16).astype(np.float32), found.target


def write(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    weights: dict[str, Any],
    shape: Sequence[int | str],
    *,
    dtype: int = TensorProto.FLOAT,
    opset: int = 17,
    rank: int | None = None,
) -> Path:
    """Write a model that reads ``x`` and gives ``y``."""
    graph = helper.make_graph(
        list(nodes),
        "network",
        [helper.make_tensor_value_info("x", dtype, list(shape))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * (rank or len(shape)))],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), str(path)
    )
    return path


def classifier(path: Path, pixels: Any, labels: Any) -> Path:
    """Layers of 64, 32 and 16 with ReLU, and ten logits, trained; ``relu_0`` .. ``relu_2``, ``logits``, ``y``."""
    from sklearn.neural_network import MLPClassifier

    trained = MLPClassifier((64, 32, 16), random_state=0, max_iter=60, tol=1e-2).fit(pixels, labels)
    assert trained.score(pixels, labels) > 0.95
    weights: dict[str, Any] = {}
    nodes, last = [], "x"
    for k, (matrix, bias) in enumerate(zip(trained.coefs_, trained.intercepts_, strict=True)):
        weights |= {f"w{k}": matrix.astype(np.float32), f"b{k}": bias.astype(np.float32)}
        out = f"gemm_{k}" if k < 3 else "logits"
        nodes.append(helper.make_node("Gemm", [last, f"w{k}", f"b{k}"], [out]))
        last = out
        if k < 3:
            nodes.append(helper.make_node("Relu", [out], [f"relu_{k}"]))
            last = f"relu_{k}"
    nodes.append(helper.make_node("Softmax", [last], ["y"], axis=1))
    return write(path, nodes, weights, ["batch", 64])


def odd_ones(path: Path, *, batch: int | str = "batch", size: int = 64) -> Path:
    """An identity, a constant, and a sum of the two: ``same``, ``still``, ``y``."""
    nodes = [
        helper.make_node("Mul", ["x", "two"], ["same"]),
        helper.make_node("Mul", ["x", "zero"], ["still"]),
        helper.make_node("Neg", ["same"], ["negative"]),
        helper.make_node("Exp", ["still"], ["one"]),
        helper.make_node("Add", ["negative", "one"], ["y"]),
    ]
    weights = {"two": np.array([2.0], np.float32), "zero": np.array([0.0], np.float32)}
    return write(path, nodes, weights, [batch, size])


def images(path: Path, *, channels: int = 3, size: int = 16) -> Path:
    """Random convolutions over images: ``first`` keeps the size, ``second`` halves it; then a mean."""
    random = np.random.default_rng(1)
    weights = {
        "w0": (random.standard_normal((8, channels, 3, 3)) / 5).astype(np.float32),
        "w1": (random.standard_normal((8, 8, 3, 3)) / 8).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["first"], pads=[1] * 4),
        helper.make_node("Conv", ["first", "w1"], ["second"], pads=[1] * 4, strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["second"], ["y"]),
    ]
    return write(path, nodes, weights, ["batch", channels, size, size])
