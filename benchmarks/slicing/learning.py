"""What `slice_train` runs in MXNet's environment: a network, a slice by itself, and a worker; each prints one line of
JSON."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import mxnet as mx
import numpy as np

from isthmus import documents
from isthmus.bootstrap_training import SlicedTraining, worker_of
from isthmus.frameworks.trainable import Recipe, TrainableSlice, open_network

LAYERS, WIDTH, CLASSES = 12, 768, 10
INPUTS = WIDTH * 3 // 2
"""The first layer needs no gradient of its inputs; so many of them make up for it, and the halves take about as
long."""
ROWS = 1024
SETTLING, REPEATS = 3, 90


def write(folder: Path, microbatch: int) -> None:
    """Write a chain of equal layers with its loss, and samples."""
    data, label = mx.sym.var("data"), mx.sym.var("label")
    noise, params, found = np.random.default_rng(1), {}, data
    for k in range(LAYERS):
        found = mx.sym.FullyConnected(found, num_hidden=WIDTH, no_bias=True, name=f"layer{k}")
        found = mx.sym.relu(found, name=f"relu{k}")
        before = WIDTH if k else INPUTS
        weights = noise.normal(size=(WIDTH, before)).astype("f4") * (2 / before) ** 0.5
        params[f"arg:layer{k}_weight"] = mx.nd.array(weights)
    found = mx.sym.FullyConnected(found, num_hidden=CLASSES, no_bias=True, name="scores")
    params["arg:scores_weight"] = mx.nd.array(noise.normal(size=(CLASSES, WIDTH)).astype("f4") * 0.01)
    loss = -mx.sym.pick(mx.sym.log_softmax(found, name="logs"), label, name="picked")
    loss.save(str(folder / "model-symbol.json"))
    mx.nd.save(str(folder / "model-0000.params"), params)
    shapes = [{"name": "data", "shape": [microbatch, INPUTS]}, {"name": "label", "shape": [microbatch]}]
    (folder / "model-shapes.json").write_text(json.dumps(shapes))
    np.save(folder / "data.npy", noise.normal(size=(ROWS, INPUTS)).astype("f4"))
    np.save(folder / "label.npy", noise.integers(0, CLASSES, ROWS).astype("f4"))
    names = [entry.name for entry in open_network("mxnet", folder).operators]
    print(json.dumps({"operators": names}))


def alone(folder: Path, cut: int, number: int, microbatch: int) -> None:
    """Run one slice by itself; print the least seconds of its forward and backward passes and of its step."""
    network = open_network("mxnet", folder)
    division = network.divide([cut], Recipe(microbatch, 1, options={"learning_rate": 1e-4, "momentum": 0.9}))
    noise = np.random.default_rng(2)
    tensors: dict[str, Any] = {
        "data": noise.normal(size=(microbatch, INPUTS)).astype("f4"),
        "label": noise.integers(0, CLASSES, microbatch).astype("f4"),
    }
    head = division.slice(0)
    given = head.forward(0, 0, tensors)
    each: TrainableSlice = division.slice(1) if number else head
    gradients = {} if number else {name: np.full_like(array, 1e-4) for name, array in given.items()}
    times = []
    for _ in range(SETTLING + REPEATS):
        marks = [time.perf_counter()]
        each.forward(0, 1, {**tensors, **given})
        marks.append(time.perf_counter())
        each.backward(1, gradients)
        mx.nd.waitall()
        marks.append(time.perf_counter())
        each.step()
        mx.nd.waitall()
        marks.append(time.perf_counter())
        times.append(np.diff(marks))
    print(json.dumps(np.array(times[SETTLING:]).min(axis=0).tolist()))


def work(path: Path) -> None:
    """Run a worker; print when each step was done, and what the process had computed by then, in seconds."""
    trainer, meeting = worker_of(documents.decode(SlicedTraining, path.read_bytes(), str(path)))
    marks: list[tuple[float, float]] = []

    def mark(step: int) -> None:
        mx.nd.waitall()
        marks.append((time.monotonic(), time.process_time()))

    trainer.on_step = mark
    try:
        trainer.run()
    finally:
        meeting.close()
    print(json.dumps(marks))


if __name__ == "__main__":
    verb, folder, *numbers = sys.argv[1:]
    match verb:
        case "write":
            write(Path(folder), int(numbers[0]))
        case "alone":
            alone(Path(folder), *map(int, numbers))
        case "work":
            work(Path(folder))
