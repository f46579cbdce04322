"""Small networks that are trained unsliced by plain Gluon, and in slices; run in MXNet's environment by
``isthmus/frameworks/launch.py``, which makes it fit for MXNet.

``check OPTIMIZER COUNT`` compares gradients and losses of every step, and weights after the last, bit by bit, in so
many divisions of each network and number of slices, and prints a line of JSON for each. ``write FOLDER NAME`` writes
a network as a script saves it, its samples, and what the unsliced network came to.

The reference is not hybridized, and knows nothing of slices but the masks' function.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon, nd
from mxnet.gluon import nn

from isthmus.errors import InvalidCase
from isthmus.frameworks.mxnet.cut import Cuttable
from isthmus.frameworks.mxnet.trainable import MXNetNetwork
from isthmus.frameworks.sliced import places
from isthmus.frameworks.trainable import Recipe, mask

STEPS = 20
MICROBATCHES = 3
SAMPLES = 12
ROWS = 120
CLASSES = 5
SEED = 5
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"learning_rate": 0.05, "momentum": 0.9, "wd": 1e-3},
    "adam": {"learning_rate": 0.01},
}


class Now:
    step = 0
    microbatch = 0
    keyed = False


class Dropped(nn.HybridBlock):
    """Dropout by keyed masks where it is the reference's."""

    def __init__(self, rate: float, **given: Any) -> None:
        super().__init__(**given)
        self.rate = rate

    def forward(self, x: Any) -> Any:
        if Now.keyed:
            name = self.name + "_fwd"
            return x * nd.array(mask(SEED, Now.step, Now.microbatch, name, x.shape, self.rate))
        return super().forward(x)

    def hybrid_forward(self, ops: Any, x: Any) -> Any:
        return ops.Dropout(x, p=self.rate, name="fwd")


class Skips(nn.HybridBlock):
    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        with self.name_scope():
            self.a, self.b, self.c = (nn.Conv2D(4, 3, padding=1) for _ in range(3))
            self.out = nn.Dense(CLASSES)

    def hybrid_forward(self, ops: Any, x: Any) -> Any:
        first = ops.relu(self.a(x))
        second = first + ops.tanh(self.b(first))
        return self.out(first + second + ops.sigmoid(self.c(second)) * second)


class Normalised(nn.HybridBlock):
    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        with self.name_scope():
            self.layers = nn.HybridSequential()
            for channels in (4, 6, 4):
                self.layers.add(
                    nn.Conv2D(channels, 3, padding=1, use_bias=False), nn.BatchNorm(), nn.Activation("relu")
                )
            self.layers.add(nn.MaxPool2D(2), nn.Dense(CLASSES))

    def hybrid_forward(self, ops: Any, x: Any) -> Any:
        return self.layers(x)


class Thinned(nn.HybridBlock):
    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        with self.name_scope():
            self.layers = nn.HybridSequential()
            for width in (24, 16, 12):
                self.layers.add(nn.Dense(width, activation="relu"), Dropped(0.3))
            self.layers.add(nn.Dense(CLASSES))

    def hybrid_forward(self, ops: Any, x: Any) -> Any:
        return self.layers(x)


class Joined(nn.HybridBlock):
    """Four branches of one tensor, as in an inception."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        with self.name_scope():
            self.stem = nn.Conv2D(4, 3, padding=1, activation="relu")
            self.one, self.two = nn.Conv2D(3, 1), nn.Conv2D(3, 3, padding=1)
            self.three, self.pool = nn.Conv2D(3, 5, padding=2), nn.AvgPool2D(3, 1, 1)
            self.out = nn.Dense(CLASSES)

    def hybrid_forward(self, ops: Any, x: Any) -> Any:
        h = self.stem(x)
        return self.out(
            ops.concat(
                ops.relu(self.one(h)), ops.tanh(self.two(h)), ops.relu(self.three(h)), self.pool(h), dim=1
            )
        )


class Attending(nn.HybridBlock):
    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        with self.name_scope():
            self.q, self.k, self.v, self.o = (nn.Dense(6, flatten=False) for _ in range(4))
            self.norm, self.dropped, self.out = nn.LayerNorm(), Dropped(0.2), nn.Dense(CLASSES)

    def hybrid_forward(self, ops: Any, x: Any) -> Any:
        x = ops.reshape(x, (0, 6, 6))
        scores = ops.softmax(ops.batch_dot(self.q(x), self.k(x), transpose_b=True) / 6**0.5)
        mixed = self.o(ops.batch_dot(self.dropped(scores), self.v(x)))
        return self.out(self.norm(mixed))


class Mixed(nn.HybridBlock):
    """All of it, with a tensor of six readers and one of three."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        with self.name_scope():
            self.a, self.b = nn.Conv2D(4, 3, padding=1), nn.BatchNorm()
            self.c, self.d, self.e = nn.Conv2D(4, 3, padding=1), nn.Conv2D(4, 1), Dropped(0.3)
            self.out = nn.Dense(CLASSES)

    def hybrid_forward(self, ops: Any, x: Any) -> Any:
        h = ops.relu(self.b(self.a(x)))
        g = self.e(ops.tanh(self.c(h)))
        k = ops.sigmoid(self.d(h)) + h * g
        return self.out(ops.concat(k, h, g, dim=1) + ops.concat(h, h, g, dim=1))


NETWORKS = {
    "skips": Skips,
    "normalised": Normalised,
    "thinned": Thinned,
    "joined": Joined,
    "attending": Attending,
    "mixed": Mixed,
}


def samples() -> tuple[Any, Any]:
    noise = np.random.RandomState(3)
    return noise.randn(ROWS, 1, 6, 6).astype("f"), noise.randint(0, CLASSES, ROWS).astype("f")


def rows_of(step: int, microbatch: int) -> Any:
    """As they come when nobody shuffles; the worker's own order is another."""
    size = SAMPLES // MICROBATCHES
    first = step % (ROWS // SAMPLES) * SAMPLES + microbatch * size
    return np.arange(first, first + size)


class Trained:
    """A network: as it begins, and what the unsliced training by Gluon makes of it."""

    def __init__(self, name: str, optimizer: str = "sgd", rows: Any = rows_of) -> None:
        Now.keyed = False
        mx.random.seed(1)
        np.random.seed(1)
        net = NETWORKS[name](prefix=f"{name}_")
        net.initialize(mx.init.Xavier())
        loss = gluon.loss.SoftmaxCrossEntropyLoss()
        images, labels = samples()
        net(nd.array(images[:4]))
        self.served = net(mx.sym.var("data"))
        self.symbol = loss(net(mx.sym.var("data")), mx.sym.var("label"))
        self.begin = {key: value.data().copy() for key, value in net.collect_params().items()}
        self.recipe = Recipe(SAMPLES, MICROBATCHES, optimizer, OPTIMIZERS[optimizer], SEED)
        self.rows = rows
        self.losses: list[list[Any]] = []
        self.gradients: list[dict[str, Any]] = []
        Now.keyed = True
        held = {key: value for key, value in net.collect_params().items() if value.grad_req != "null"}
        for value in held.values():
            value.grad_req = "add"
        trainer = gluon.Trainer(net.collect_params(), optimizer, OPTIMIZERS[optimizer], kvstore=None)
        for step in range(STEPS):
            for value in held.values():
                value.zero_grad()
            self.losses.append([])
            for microbatch in range(MICROBATCHES):
                Now.step, Now.microbatch = step, microbatch
                chosen = rows(step, microbatch)
                with autograd.record():
                    found = loss(net(nd.array(images[chosen])), nd.array(labels[chosen]))
                found.backward()
                self.losses[-1].append(found.asnumpy())
            self.gradients.append({key: value.grad().asnumpy() for key, value in held.items()})
            trainer.step(SAMPLES)
        self.weights = {key: value.data().asnumpy() for key, value in net.collect_params().items()}


def unequal(trained: Trained, network: MXNetNetwork, cuts: list[int]) -> list[str]:
    """Train in slices, one forward pass ahead of each backward pass; return what differs in a bit."""
    division = network.divide(cuts, trained.recipe)
    slices = [division.slice(k) for k in range(len(division.forms))]
    images, labels = samples()
    found = []
    output = network.whole.outputs[0]
    losses: list[Any] = []

    def forward(step: int, microbatch: int) -> None:
        chosen = trained.rows(step, microbatch)
        tensors = {"data": images[chosen], "label": labels[chosen]}
        for each in slices:
            tensors.update(each.forward(step, microbatch, tensors))
        losses.append(tensors[output])

    def backward(microbatch: int) -> None:
        gradients: dict[str, Any] = {}
        for each in reversed(slices):
            given = {name: gradients[name] for name in each.form.gives if name in gradients}
            gradients.update(each.backward(microbatch, given))

    for step in range(STEPS):
        losses.clear()
        forward(step, 0)
        for microbatch in range(1, MICROBATCHES):
            forward(step, microbatch)
            backward(microbatch - 1)
        backward(MICROBATCHES - 1)
        sums = {name: value for each in slices for name, value in each.gradients().items()}
        found += [f"gradient {name}, step {step}" for name in differing(sums, trained.gradients[step])]
        if [one.tobytes() for one in losses] != [one.tobytes() for one in trained.losses[step]]:
            found.append(f"loss, step {step}")
        for each in slices:
            each.step()
    held = {
        key.partition(":")[2]: value
        for each in slices
        for key, value in each.state().items()
        if key.startswith(("parameter:", "statistic:"))
    }
    return found + [f"weight {name}" for name in differing(held, trained.weights)]


def differing(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """Return names of arrays that are not the same bytes."""
    names = sorted({*found, *expected})
    return [
        name
        for name in names
        if name not in found or name not in expected or found[name].tobytes() != expected[name].tobytes()
    ]


def divisions(network: MXNetNetwork, slices: int, count: int) -> list[list[int]]:
    """Return some divisions of a network, of all that can be; fewer where there are not so many."""
    draw = random.Random(slices)
    found: list[list[int]] = []
    for _ in range(200):
        cuts = sorted(draw.sample(places(network.operators), slices - 1))
        try:
            network.divide(cuts, Recipe(1, 1))
        except InvalidCase:
            continue
        if cuts not in found:
            found.append(cuts)
        if len(found) == count:
            break
    return found


def check(optimizer: str, count: int) -> None:
    for name in NETWORKS:
        trained = Trained(name, optimizer)
        network = MXNetNetwork(Cuttable.of(trained.symbol, trained.begin), trained.begin)
        for slices in (2, 3, 4):
            for cuts in divisions(network, slices, count):
                line = {"network": name, "slices": slices, "cuts": cuts}
                print(json.dumps({**line, "unequal": unequal(trained, network, cuts)}), flush=True)


def write(folder: Path, name: str) -> None:
    from isthmus.workflows.slice_batches import Batches

    images, labels = samples()
    recipe = Recipe(SAMPLES, MICROBATCHES, seed=SEED)
    order = Batches({"row": np.arange(ROWS)}, ROWS, recipe)
    trained = Trained(name, rows=lambda step, microbatch: order(step, microbatch, ["row"])["row"])
    folder.mkdir(parents=True, exist_ok=True)
    served = folder / "served"
    served.mkdir()
    trained.symbol.save(str(folder / "model-symbol.json"))
    trained.served.save(str(served / "model-symbol.json"))
    states = set(trained.symbol.list_auxiliary_states())
    stored = {("aux:" if key in states else "arg:") + key: value for key, value in trained.begin.items()}
    for each in (folder, served):
        mx.nd.save(str(each / "model-0000.params"), stored)
    size = SAMPLES // MICROBATCHES
    shapes = [{"name": "data", "shape": [size, 1, 6, 6]}, {"name": "label", "shape": [size]}]
    (folder / "model-shapes.json").write_text(json.dumps(shapes))
    (served / "model-shapes.json").write_text(json.dumps(shapes[:1]))
    np.save(folder / "data.npy", images)
    np.save(folder / "label.npy", labels)
    np.savez(folder / "reference.npz", losses=np.array(trained.losses), **trained.weights)
    network = MXNetNetwork(Cuttable.of(trained.symbol, trained.begin), trained.begin)
    chosen = {str(slices): divisions(network, slices, 1)[0] for slices in (2, 3, 4)}
    (folder / "cuts.json").write_text(json.dumps(chosen))


if __name__ == "__main__":
    if sys.argv[1] == "check":
        check(sys.argv[2], int(sys.argv[3]))
    else:
        write(Path(sys.argv[2]), sys.argv[3])
