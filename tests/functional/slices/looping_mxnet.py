"""A Gluon tutorial's loop, as it is and with one line added; run in MXNet's environment by
``isthmus/frameworks/launch.py``.

Prints a line of JSON for each way to run each network: what differs in a bit from the loop without that line, of all
losses, of the weights and statistics after the last step, and of an inference at the end. Arguments: addresses of two
workers, and names of networks (all, if there are none). ``refused ADDRESS`` prints what is said of what cannot be cut.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import learning_mxnet as networks
import mxnet as mx
import numpy as np
from mxnet import autograd, gluon, nd
from mxnet.gluon import nn

import isthmus
from isthmus.errors import IsthmusError

BATCH, EPOCHS = 32, 2
"""The last batch of an epoch is smaller."""
Line = Callable[[Any], Any]


def loop(name: str, line: Line, hybrid: bool = False, accumulate: bool = False) -> dict[str, bytes]:
    """Train and ask a network; return all that it comes to."""
    networks.Now.keyed = False
    mx.random.seed(1)
    np.random.seed(1)
    images, labels = networks.samples()
    net = networks.NETWORKS[name](prefix="net_")
    net.initialize(mx.init.Xavier())
    if hybrid:
        net.hybridize(static_alloc=True)
    net = line(net)
    loss_fn = gluon.loss.SoftmaxCrossEntropyLoss()
    trainer = gluon.Trainer(
        net.collect_params(), "sgd", {"learning_rate": 0.05, "momentum": 0.9}, kvstore=None
    )
    data = gluon.data.DataLoader(gluon.data.ArrayDataset(images, labels), BATCH, shuffle=True)
    found: dict[str, bytes] = {}
    if accumulate:
        net(nd.array(images[:1]))
        for each in net.collect_params().values():
            if each.grad_req == "write":
                each.grad_req = "add"
    for epoch in range(EPOCHS):
        for k, (x, y) in enumerate(data):
            with autograd.record():
                loss = loss_fn(net(x), y)
            loss.backward()
            if not accumulate or k % 2:
                trainer.step(x.shape[0])
                if accumulate:
                    for each in net.collect_params().values():
                        each.zero_grad()
            found[f"loss {epoch}/{k}"] = loss.asnumpy().tobytes()
    nd.waitall()
    for key, value in net.collect_params().items():
        found[f"weight {key}"] = value.data().asnumpy().tobytes()
    found["inference"] = net(nd.array(images[:7])).asnumpy().tobytes()
    x = nd.array(images[:3])
    x.attach_grad()
    with autograd.record(train_mode=False):
        total = net(x).sum()
    total.backward()
    found["gradient of the input"] = x.grad.asnumpy().tobytes()
    return found


def middle(name: str, slices: int) -> list[str]:
    """Return names of operators where a network may be cut."""
    mx.random.seed(1)
    net = networks.NETWORKS[name](prefix="net_")
    net.initialize()
    net(nd.array(networks.samples()[0][:1]))
    params = {each.name: each for each in net.collect_params().values()}
    whole = networks.Cuttable.of(net(mx.sym.var("data")), params)
    found = networks.divisions(networks.MXNetNetwork(whole, params), slices, 1)[0]
    return [whole.operators[cut].name for cut in found]


def main(first: str, second: str, names: Sequence[str]) -> None:
    for name in names or networks.NETWORKS:
        two, three = middle(name, 2), middle(name, 3)
        here: dict[str, Line] = {
            "one slice": lambda net: isthmus.hybridize(net),
            "two here": lambda net, two=two: isthmus.hybridize(net, cuts=two),
            "three here": lambda net, three=three: isthmus.hybridize(net, cuts=three),
        }
        away: dict[str, Line] = {
            "second elsewhere": lambda net, two=two: isthmus.hybridize(net, cuts=two, places=["here", first]),
            "first elsewhere": lambda net, two=two: isthmus.hybridize(net, cuts=two, places=[first, "here"]),
            "three in three": lambda net, three=three: isthmus.hybridize(
                net, cuts=three, places=[first, "here", second]
            ),
        }
        # Elsewhere MXNet adds a convolution's gradient to what is there once, and not for each sample.
        kinds = {"plain": here | away, "hybridized": here, "accumulated": here}
        for kind, ways in kinds.items():
            given = kind == "hybridized", kind == "accumulated"
            expected = loop(name, lambda net: net, *given)
            for way, line in ways.items():
                found = loop(name, line, *given)
                wrong = [key for key in expected if found.get(key) != expected[key]]
                print(json.dumps({"network": name, "way": way, "kind": kind, "unequal": wrong}), flush=True)


class Noisy(nn.HybridBlock):
    def hybrid_forward(self, ops: Any, x: Any) -> Any:
        return x + ops.random.uniform(0, 1, shape=(2, 3))


class Plain(nn.Sequential):
    pass


def refused(nobody: str) -> None:
    """Print what is said of networks that cannot be cut, and of a place where nobody is."""
    dense = nn.HybridSequential(prefix="net_")
    with dense.name_scope():
        dense.add(nn.Dense(4), nn.Dense(2))
    noisy = nn.HybridSequential(prefix="noisy_")
    with noisy.name_scope():
        noisy.add(nn.Dense(3), Noisy())
    x = nd.ones((2, 3))
    for net in (dense, noisy):
        net.initialize()
        net(x)
    wishes: list[Callable[[], Any]] = [
        lambda: isthmus.hybridize(Plain(), cuts=[1]),
        lambda: isthmus.hybridize([], cuts=[1]),
        lambda: isthmus.hybridize(noisy, cuts=[1])(x),
        lambda: isthmus.hybridize(dense, cuts=["there"])(x),
        lambda: isthmus.hybridize(dense, cuts=[dense[1]])(3),
        lambda: isthmus.hybridize(dense, places=[nobody], patience_seconds=0.3)(x),
        lambda: isthmus.hybridize(dense, cuts=[1], places=["here"]),
    ]
    for wish in wishes:
        try:
            wish()
            print("it was not refused")
        except IsthmusError as error:
            print(f"{type(error).__name__}: {error}")
    print(isthmus.hybridize(dense, cuts=[dense[1]]).plan)
    dense(x)
    print(dense.plan)


if __name__ == "__main__":
    if sys.argv[1] == "refused":
        refused(sys.argv[2])
    else:
        main(sys.argv[1], sys.argv[2], sys.argv[3:])
