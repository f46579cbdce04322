"""An ordinary PyTorch loop, as it is and with one line added; run by hand, where PyTorch is.

Arguments and output as ``looping_mxnet`` has them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import learning_torch as networks
import torch
from torch.nn import functional

import isthmus
from isthmus.errors import IsthmusError
from isthmus.frameworks.torch.cut import Cuttable

BATCH, EPOCHS = 16, 2
Line = Callable[[Any], Any]


def loop(name: str, line: Line, accumulate: bool = False) -> dict[str, bytes]:
    """Train and ask a network; return all that it comes to."""
    torch.manual_seed(1)
    images, labels = (torch.from_numpy(array) for array in networks.samples())
    net = line(networks.NETWORKS[name]())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images, labels), BATCH, shuffle=True)
    found: dict[str, bytes] = {}
    for epoch in range(EPOCHS):
        net.train()
        for k, (x, y) in enumerate(data):
            if not accumulate or k % 2 == 0:
                optimizer.zero_grad()
            loss = functional.cross_entropy(net(x), y)
            loss.backward()
            if not accumulate or k % 2:
                optimizer.step()
            found[f"loss {epoch}/{k}"] = loss.detach().numpy().tobytes()
    for key, value in net.state_dict().items():
        found[f"weight {key}"] = value.numpy().tobytes()
    net.eval()
    with torch.no_grad():
        found["inference"] = net(images[:7]).numpy().tobytes()
    x = images[:3].clone().requires_grad_(True)
    net(x).sum().backward()
    found["gradient of the input"] = x.grad.numpy().tobytes()
    return found


def middle(name: str, slices: int) -> list[str]:
    """Return names of operators where a network may be cut, in training and in evaluation mode."""
    found = []
    net = networks.NETWORKS[name]()
    image = torch.from_numpy(networks.samples()[0][:4])
    whole = Cuttable.of(torch.export.export(net.train(), (image,)))
    other = Cuttable.of(torch.export.export(net.eval(), (image,)))
    names = [each.name for each in other.operators]
    for cuts in networks.divisions(networks.TorchNetwork(whole), slices, 20):
        found = [whole.operators[cut].name for cut in cuts]
        try:
            other.divide([names.index(each) for each in found])
            return found
        except (IsthmusError, ValueError):
            continue
    raise SystemExit(f"{name} cannot be cut in both modes")


def main(first: str, second: str) -> None:
    for name in networks.NETWORKS:
        two, three = middle(name, 2), middle(name, 3)
        ways: dict[str, Line] = {
            "one slice": lambda net: isthmus.hybridize(net),
            "two here": lambda net, two=two: isthmus.hybridize(net, cuts=two),
            "three here": lambda net, three=three: isthmus.hybridize(net, cuts=three),
            "second elsewhere": lambda net, two=two: isthmus.hybridize(net, cuts=two, places=["here", first]),
            "first elsewhere": lambda net, two=two: isthmus.hybridize(net, cuts=two, places=[first, "here"]),
            "three in three": lambda net, three=three: isthmus.hybridize(
                net, cuts=three, places=[first, "here", second]
            ),
        }
        for accumulate in (False, True):
            expected = loop(name, lambda net: net, accumulate)
            for way, line in ways.items():
                found = loop(name, line, accumulate)
                wrong = [key for key in expected if found.get(key) != expected[key]]
                kind = "accumulated" if accumulate else "plain"
                print(json.dumps({"network": name, "way": way, "kind": kind, "unequal": wrong}), flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    # Kernels of its own for attention where nothing is recorded; no exported program has them.
    torch.backends.mha.set_fastpath_enabled(False)
    main(*sys.argv[1:3])
