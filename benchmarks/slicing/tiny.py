"""Slices of a tiny network in plain numpy, for worlds of which a hundred thousand are run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from isthmus.frameworks.sliced import Operator, SliceForm
from isthmus.frameworks.trainable import Recipe
from isthmus.workflows.slice_batches import Batches

FACTORS = 4
NETWORK = (
    Operator("h0", (), ("h0",), ("w0",), ("x",)),
    *(
        Operator(f"h{k}", tuple(dict.fromkeys(("h0", f"h{k - 1}"))), (f"h{k}",), (f"w{k}",))
        for k in range(1, FACTORS)
    ),
    Operator("loss", (f"h{FACTORS - 1}",), ("loss",), (), ("y",)),
)
"""h0 = w0 x; hk = wk h(k-1) + h0, which every slice but the last reads; loss = (h - y)²."""
RATE, MOMENTUM = np.float32(1e-3), np.float32(0.9)


class TinySlice:
    """Some of the operators. ``pass_``: is called before each forward pass."""

    def __init__(self, form: SliceForm, pass_: Callable[[], None] = lambda: None) -> None:
        self.form = form
        self._pass = pass_
        self._operators = NETWORK[form.start : form.end]
        self._weights = {name: np.float32(1 + int(name[1:]) / 10) for name in form.parameters}
        self._speeds = dict.fromkeys(form.parameters, np.float32(0))
        self._sums = dict.fromkeys(form.parameters, np.float32(0))
        self._steps = 0
        self._held: dict[int, dict[str, Any]] = {}

    def forward(self, step: int, microbatch: int, tensors: Mapping[str, Any]) -> dict[str, Any]:
        self._pass()
        held = dict(tensors)
        for operator in self._operators:
            name = operator.name
            if name == "loss":
                held["loss"] = (held[operator.reads[0]] - held["y"]) ** 2
            elif name == "h0":
                held["h0"] = held["x"] * self._weights["w0"]
            else:
                k = int(name[1:])
                held[name] = held[f"h{k - 1}"] * self._weights[f"w{k}"] + held["h0"]
        self._held[microbatch] = held
        return {name: held[name] for name in (*self.form.gives, *self.form.outputs)}

    def backward(self, microbatch: int, gradients: Mapping[str, Any]) -> dict[str, Any]:
        held, sums = self._held.pop(microbatch), dict(gradients)

        def add(name: str, value: Any) -> None:
            sums[name] = sums[name] + value if name in sums else value

        for operator in reversed(self._operators):
            name = operator.name
            if name == "loss":
                add(operator.reads[0], 2 * (held[operator.reads[0]] - held["y"]))
            elif name == "h0":
                self._sums["w0"] += (sums["h0"] * held["x"]).sum()
            else:
                k, gradient = int(name[1:]), sums[name]
                self._sums[f"w{k}"] += (gradient * held[f"h{k - 1}"]).sum()
                add("h0", gradient)
                add(f"h{k - 1}", gradient * self._weights[f"w{k}"])
        return {name: sums[name] for name in self.form.reads}

    def step(self) -> None:
        for name in self._weights:
            self._speeds[name] = MOMENTUM * self._speeds[name] + self._sums[name]
            self._weights[name] -= RATE * self._speeds[name]
            self._sums[name] = np.float32(0)
        self._steps += 1

    def state(self) -> dict[str, Any]:
        held = {f"parameter:{name}": np.array(value) for name, value in self._weights.items()}
        speeds = {f"optimizer:{name}:speed": np.array(value) for name, value in self._speeds.items()}
        return {**held, **speeds, "steps": np.array(self._steps)}

    def load(self, state: Mapping[str, Any]) -> None:
        self._weights = {name: np.float32(state[f"parameter:{name}"]) for name in self._weights}
        self._speeds = {name: np.float32(state[f"optimizer:{name}:speed"]) for name in self._weights}
        self._sums = dict.fromkeys(self._weights, np.float32(0))
        self._steps = int(state["steps"])
        self._held = {}


def batches(rows: int, recipe: Recipe) -> Batches:
    """Return samples of the network's inputs."""
    noise = np.random.default_rng(1)
    return Batches({name: noise.normal(size=rows).astype("f4") for name in "xy"}, rows, recipe)
