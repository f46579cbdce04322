"""What `hybridize_overhead` and `replicas` run in MXNet's environment: Gluon loops; each prints one line of JSON."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon, nd
from mxnet.gluon import nn

import isthmus

SIZE, CLASSES = 28, 10
SETTLING = 6
Line = Callable[[Any], Any]


def network() -> Any:
    """Return an initialized convolutional network, always the same."""
    mx.random.seed(1)
    np.random.seed(1)
    net = nn.HybridSequential(prefix="net_")
    with net.name_scope():
        net.add(
            nn.Conv2D(16, 3, padding=1, activation="relu"), nn.Conv2D(32, 3, padding=1, activation="relu")
        )
        net.add(nn.MaxPool2D(2), nn.Conv2D(32, 3, padding=1, activation="relu"), nn.MaxPool2D(2))
        net.add(nn.Dense(64, activation="relu"), nn.Dense(CLASSES))
    net.initialize(mx.init.Xavier())
    net(nd.zeros((1, 1, SIZE, SIZE)))
    return net


class Loop:
    """A network, its trainer and a batch."""

    def __init__(self, net: Any, samples: int) -> None:
        noise = np.random.RandomState(3)
        self.samples = samples
        self.net = net
        self._x = nd.array(noise.randn(samples, 1, SIZE, SIZE).astype("f4"))
        self._y = nd.array(noise.randint(0, CLASSES, samples).astype("f4"))
        self._loss = gluon.loss.SoftmaxCrossEntropyLoss()
        options = {"learning_rate": 0.01, "momentum": 0.9}
        self._trainer = gluon.Trainer(net.collect_params(), "sgd", options, kvstore=None)
        self.losses: list[bytes] = []

    def run(self, steps: int) -> float:
        """Return the seconds of so many steps of the tutorial's loop."""
        began = time.perf_counter()
        for _ in range(steps):
            with autograd.record():
                loss = self._loss(self.net(self._x), self._y)
            loss.backward()
            self._trainer.step(self.samples)
            self.losses.append(loss.asnumpy().tobytes())
        nd.waitall()
        return time.perf_counter() - began


def overhead(samples: int, rounds: int, steps: int) -> None:
    """Run four loops in turns; print the seconds of a step in each round, and whether their losses are the same."""

    def fastest(net: Any) -> Any:
        net.hybridize(static_alloc=True, static_shape=True)
        return net

    lines: dict[str, Line] = {
        "plain": lambda net: net,
        "hybridized": fastest,
        "one slice": lambda net: isthmus.hybridize(fastest(net)),
        "two slices": lambda net: isthmus.hybridize(net, cuts=[net[3]]),
    }
    loops = {name: Loop(line(network()), samples) for name, line in lines.items()}
    for each in loops.values():
        each.run(SETTLING)
    found: dict[str, list[float]] = {name: [] for name in loops}
    for k in range(rounds):
        # The other way round each time: what comes later may find another machine.
        for name in list(loops)[:: 1 if k % 2 else -1]:
            found[name].append(loops[name].run(steps) / steps)
    losses = [each.losses for each in loops.values()]
    print(json.dumps({"seconds": found, "equal": all(each == losses[0] for each in losses)}))


def alone(samples: int, steps: int) -> None:
    """Train by the plain loop; print samples a second."""
    loop = Loop(network(), samples)
    loop.run(SETTLING)
    print(json.dumps({"rate": samples * steps / loop.run(steps)}))


def together(samples: int, steps: int, address: str, wish: str) -> None:
    """Train on two replicas; print samples a second, and the shares."""
    rates = None if wish == "measured" else [1.0, 1.0]
    net = isthmus.hybridize(network(), replicas=["here", address], rates=rates)
    loop = Loop(net, samples)
    # Until shares have settled.
    loop.run(3 * SETTLING)
    rate = samples * steps / loop.run(steps)
    print(json.dumps({"rate": rate, "rows": net.plan.sharing.taken[-1].rows}))


if __name__ == "__main__":
    verb, *words = sys.argv[1:]
    match verb:
        case "overhead":
            overhead(*map(int, words))
        case "alone":
            alone(*map(int, words))
        case "together":
            together(int(words[0]), int(words[1]), words[2], words[3])
