"""What `slice_gradients` runs in MXNet's environment: Fashion-MNIST in two slices, the gradients between them as they
are, or in eight bits with error feedback; prints one line of JSON."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import mxnet as mx
import numpy as np

from isthmus.frameworks.mxnet.cut import Cuttable
from isthmus.frameworks.mxnet.trainable import MXNetNetwork
from isthmus.frameworks.trainable import Recipe
from isthmus.workflows.slice_batches import Batches
from isthmus.workflows.slice_gradients import Rounding, restored

WIDTHS, CLASSES, PIXELS = (256, 128), 10, 784
CUT = 2
"""Behind the first layer and its ReLU: 256 values of each sample cross."""
SAMPLES, MICROBATCHES, EPOCHS = 64, 4, 4


def read(folder: Path, channel: str) -> tuple[Any, Any]:
    """Return images as ``[rows, 784]`` from 0 to 1, and labels (IDX files, yann.lecun.com/exdb/mnist)."""
    with gzip.open(folder / channel / "images.idx.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, PIXELS)
    with gzip.open(folder / channel / "labels.idx.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)
    return images.astype("f4") / 255, labels.astype("f4")


def network(seed: int) -> MXNetNetwork:
    """Return three dense layers with their loss, and weights of a seed."""
    noise, params, found, before = np.random.default_rng(seed), {}, mx.sym.var("data"), PIXELS
    for k, width in enumerate((*WIDTHS, CLASSES)):
        found = mx.sym.FullyConnected(found, num_hidden=width, name=f"layer{k}")
        weights = noise.normal(size=(width, before)).astype("f4") * (2 / before) ** 0.5
        params |= {f"layer{k}_weight": mx.nd.array(weights), f"layer{k}_bias": mx.nd.zeros(width)}
        found, before = mx.sym.relu(found, name=f"relu{k}") if k < len(WIDTHS) else found, width
    loss = -mx.sym.pick(mx.sym.log_softmax(found, name="logs"), mx.sym.var("label"), name="picked")
    return MXNetNetwork(Cuttable.of(loss, params), params)


def trained(folder: Path, seed: int, rounding: Rounding | None) -> tuple[dict[str, Any], int]:
    """Train; return weights, and the bytes of gradients that crossed."""
    images, labels = read(folder, "train")
    recipe = Recipe(SAMPLES, MICROBATCHES, "sgd", {"learning_rate": 0.05, "momentum": 0.9}, seed)
    division = network(seed).divide([CUT], recipe)
    head, tail = division.slice(0), division.slice(1)
    batches, crossed = Batches({"data": images, "label": labels}, len(images), recipe), 0
    for step in range(len(images) // SAMPLES * EPOCHS):
        for k in range(MICROBATCHES):
            given = batches(step, k, ["data", "label"])
            tail.forward(step, k, {**given, **head.forward(step, k, given)})
            sums = tail.backward(k, {})
            if rounding is not None:
                sums = rounding.rounded(1, k, sums)
            crossed += sum(array.nbytes for array in sums.values())
            head.backward(k, restored(sums))
        head.step()
        tail.step()
    held = {**head.state(), **tail.state()}
    return {name.partition(":")[2]: array for name, array in held.items() if ":" in name}, crossed


def accuracy(weights: dict[str, Any], images: Any, labels: Any) -> float:
    """Return the share of images that are told right, computed by numpy."""
    found = images
    for k in range(len(WIDTHS) + 1):
        found = found @ weights[f"layer{k}_weight"].T + weights[f"layer{k}_bias"]
        found = np.maximum(found, 0) if k < len(WIDTHS) else found
    return float((found.argmax(axis=1) == labels).mean())


def main(folder: Path, seed: int) -> None:
    """Train both ways from the same weights, in the same order."""
    test = read(folder, "test")
    line: dict[str, Any] = {"seed": seed}
    for name, rounding in (("whole", None), ("int8", Rounding())):
        weights, crossed = trained(folder, seed, rounding)
        line |= {name: accuracy(weights, *test), f"{name}_bytes": crossed}
    print(json.dumps(line))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
