"""Small networks that are trained unsliced by plain PyTorch, and in slices; run by hand, where PyTorch is
(``torch_by_hand``).

Arguments and output as ``learning_mxnet`` has them. The reference is the module itself, and knows nothing of slices
but the masks' function.
"""

from __future__ import annotations

import itertools
import json
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from isthmus.errors import InvalidCase
from isthmus.frameworks.sliced import places
from isthmus.frameworks.torch.trainable import TorchNetwork, read
from isthmus.frameworks.trainable import Recipe, mask

STEPS = 20
MICROBATCHES = 3
SAMPLES = 12
ROWS = 120
CLASSES = 5
SEED = 5
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-3},
    "adam": {"lr": 0.01},
}


class Now:
    step = 0
    microbatch = 0


class Dropped(nn.Module):
    """Dropout by keyed masks once it has a key."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.key = ""

    def forward(self, x: Any) -> Any:
        if not self.key:
            return functional.dropout(x, self.rate, self.training)
        return x * torch.from_numpy(mask(SEED, Now.step, Now.microbatch, self.key, tuple(x.shape), self.rate))


class Skips(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(k, 4, 3, padding=1) for k in (1, 4, 4))
        self.out = nn.Linear(144, CLASSES)

    def forward(self, x: Any) -> Any:
        first = torch.relu(self.a(x))
        second = first + torch.tanh(self.b(first))
        return self.out((first + second + torch.sigmoid(self.c(second)) * second).flatten(1))


class Normalised(nn.Sequential):
    def __init__(self) -> None:
        sizes = (1, 4, 6, 4)
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(sizes):
            layers += [
                nn.Conv2d(before, after, 3, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(True),
            ]
        super().__init__(*layers, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, CLASSES))


class Thinned(nn.Sequential):
    def __init__(self) -> None:
        sizes = (36, 24, 16, 12)
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in itertools.pairwise(sizes):
            layers += [nn.Linear(before, after), nn.ReLU(), Dropped(0.3)]
        super().__init__(*layers, nn.Linear(12, CLASSES))


class Joined(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.one, self.two = nn.Conv2d(4, 3, 1), nn.Conv2d(4, 3, 3, padding=1)
        self.three, self.pool = nn.Conv2d(4, 3, 5, padding=2), nn.AvgPool2d(3, 1, 1)
        self.out = nn.Linear(13 * 36, CLASSES)

    def forward(self, x: Any) -> Any:
        h = torch.relu(self.stem(x))
        found = [torch.relu(self.one(h)), torch.tanh(self.two(h)), torch.relu(self.three(h)), self.pool(h)]
        return self.out(torch.cat(found, 1).flatten(1))


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.norm, self.dropped, self.out = nn.LayerNorm(6), Dropped(0.2), nn.Linear(36, CLASSES)

    def forward(self, x: Any) -> Any:
        x = x.flatten(1).reshape(-1, 6, 6)
        mixed, _ = self.attention(x, x, x, need_weights=False)
        return self.out(self.norm(x + self.dropped(mixed)).flatten(1))


class Mixed(nn.Module):
    """All of it, with a tensor of six readers, a buffer, views, and what is changed in place."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.r = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True)
        self.c, self.d, self.e = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1), Dropped(0.3)
        self.attention, self.g = nn.MultiheadAttention(36, 2, batch_first=True), Dropped(0.2)
        self.out = nn.Linear(12 * 36, CLASSES)
        self.register_buffer("place", torch.randn(1, 12, 36))

    def forward(self, x: Any) -> Any:
        h = self.r(self.b(self.a(x)))
        g = self.e(torch.tanh(self.c(h)))
        k = torch.sigmoid(self.d(h)) + h * g
        t = (torch.cat([k, h, g], 1) + torch.cat([h, h, g], 1)).flatten(2) + self.place
        t = t + self.g(self.attention(t, t, t)[0])
        one, two = t.transpose(1, 2).chunk(2, 2)
        return self.out(torch.cat([two, one], 2).transpose(1, 2).flatten(1))


NETWORKS: dict[str, type[nn.Module]] = {
    "skips": Skips,
    "normalised": Normalised,
    "thinned": Thinned,
    "joined": Joined,
    "attending": Attending,
    "mixed": Mixed,
}


class Lossy(nn.Module):
    """A network with its loss."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, data: Any, label: Any) -> Any:
        return functional.cross_entropy(self.net(data), label)


def samples() -> tuple[Any, Any]:
    noise = np.random.RandomState(3)
    return noise.randn(ROWS, 1, 6, 6).astype("f"), noise.randint(0, CLASSES, ROWS)


def rows_of(step: int, microbatch: int) -> Any:
    size = SAMPLES // MICROBATCHES
    first = step % (ROWS // SAMPLES) * SAMPLES + microbatch * size
    return np.arange(first, first + size)


def copied(tensors: Any) -> dict[str, Any]:
    return {name: tensor.detach().numpy().copy() for name, tensor in tensors}


class Trained:
    """A network: as it begins, in ``folder``, and what the unsliced training makes of it."""

    def __init__(self, name: str, folder: Path, optimizer: str = "sgd", rows: Any = rows_of) -> None:
        torch.manual_seed(1)
        net = Lossy(NETWORKS[name]()).train()
        images, labels = (torch.from_numpy(array) for array in samples())
        size = SAMPLES // MICROBATCHES
        torch.export.save(torch.export.export(net, (images[:size], labels[:size])), folder / "model.pt2")
        self.net = net
        self.network: TorchNetwork = read(folder)
        self.recipe = Recipe(SAMPLES, MICROBATCHES, optimizer, OPTIMIZERS[optimizer], SEED)
        self.rows = rows
        self.losses: list[list[Any]] = []
        self.gradients: list[dict[str, Any]] = []
        keys = [each.name for each in self.network.operators if each.name.startswith("dropout")]
        for dropped, key in zip(
            (each for each in net.modules() if isinstance(each, Dropped)), keys, strict=True
        ):
            dropped.key = key
        make = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[optimizer]
        learning = make(net.parameters(), **OPTIMIZERS[optimizer])
        for step in range(STEPS):
            learning.zero_grad()
            self.losses.append([])
            for microbatch in range(MICROBATCHES):
                Now.step, Now.microbatch = step, microbatch
                chosen = rows(step, microbatch)
                loss = net(images[chosen], labels[chosen])
                (loss / MICROBATCHES).backward()
                self.losses[-1].append(loss.detach().numpy().copy())
            self.gradients.append(copied((name, each.grad) for name, each in net.named_parameters()))
            learning.step()
        self.weights = copied((name, each) for name, each in net.state_dict().items() if name != "net.place")


def unequal(trained: Trained, cuts: list[int]) -> list[str]:
    """Train in slices, one forward pass ahead of each backward pass; return what differs in a bit."""
    division = trained.network.divide(cuts, trained.recipe)
    slices = [division.slice(k) for k in range(len(division.forms))]
    images, labels = samples()
    found: list[str] = []
    output = trained.network.whole.outputs[0]
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
    return [
        name
        for name in sorted({*found, *expected})
        if name not in found or name not in expected or found[name].tobytes() != expected[name].tobytes()
    ]


def divisions(network: TorchNetwork, slices: int, count: int) -> list[list[int]]:
    """Return some divisions of a network, of all that can be."""
    draw = random.Random(slices)
    found: list[list[int]] = []
    for _ in range(500):
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
        with tempfile.TemporaryDirectory() as folder:
            trained = Trained(name, Path(folder), optimizer)
        for slices in (2, 3, 4):
            for cuts in divisions(trained.network, slices, count):
                line = {"network": name, "slices": slices, "cuts": cuts}
                print(json.dumps({**line, "unequal": unequal(trained, cuts)}), flush=True)


def write(folder: Path, name: str) -> None:
    from isthmus.workflows.slice_batches import Batches

    images, labels = samples()
    order = Batches({"row": np.arange(ROWS)}, ROWS, Recipe(SAMPLES, MICROBATCHES, seed=SEED))
    folder.mkdir(parents=True, exist_ok=True)
    trained = Trained(name, folder, rows=lambda step, microbatch: order(step, microbatch, ["row"])["row"])
    for each in trained.net.modules():
        if isinstance(each, Dropped):
            each.key = ""
    (folder / "served").mkdir()
    served = torch.export.export(trained.net.net.eval(), (torch.from_numpy(images[:4]),))
    for value in served.state_dict.values():
        value.detach().zero_()
    torch.export.save(served, folder / "served" / "model.pt2")
    np.save(folder / "data.npy", images)
    np.save(folder / "label.npy", labels)
    np.savez(folder / "reference.npz", losses=np.array(trained.losses), **trained.weights)
    chosen = {str(slices): divisions(trained.network, slices, 1)[0] for slices in (2, 3, 4)}
    (folder / "cuts.json").write_text(json.dumps(chosen))


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1] == "check":
        check(sys.argv[2], int(sys.argv[3]))
    else:
        write(Path(sys.argv[2]), sys.argv[3])
