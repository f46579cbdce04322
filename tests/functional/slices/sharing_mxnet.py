"""A Gluon loop on replicas that share each batch unequally, against one process that has a micro-batch for each share;
run in MXNet's environment by ``isthmus/frameworks/launch.py``.

Arguments: a worker's address, and a folder. Prints a line of JSON for each case.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import learning_mxnet as networks
import mxnet as mx
import numpy as np
from mxnet import autograd, gluon, nd

import isthmus

BATCH, STEPS = 20, 8
RATES = (3.0, 1.0)


def begin(name: str) -> tuple[Any, Any]:
    networks.Now.keyed = False
    mx.random.seed(1)
    np.random.seed(1)
    net = networks.NETWORKS[name](prefix="net_")
    net.initialize(mx.init.Xavier())
    net(nd.array(networks.samples()[0][:1]))
    options = {"learning_rate": 0.05, "momentum": 0.9}
    return net, gluon.Trainer(net.collect_params(), "sgd", options, kvstore=None)


def batch(step: int) -> tuple[Any, Any]:
    images, labels = networks.samples()
    first = step * BATCH % networks.ROWS
    return nd.array(images[first : first + BATCH]), nd.array(labels[first : first + BATCH])


def weights(net: Any) -> dict[str, Any]:
    nd.waitall()
    return {key: value.data().asnumpy() for key, value in net.collect_params().items()}


def shared(steps: range, net: Any, trainer: Any) -> list[bytes]:
    """The loop as it is."""
    loss_fn, losses = gluon.loss.SoftmaxCrossEntropyLoss(), []
    for step in steps:
        x, y = batch(step)
        with autograd.record():
            loss = loss_fn(net(x), y)
        loss.backward()
        trainer.step(BATCH)
        losses.append(loss.asnumpy().tobytes())
    return losses


def alone(name: str, shares: Sequence[Sequence[int]]) -> tuple[list[bytes], dict[str, Any]]:
    """One process, which has a micro-batch for each share, and adds up what their gradients come to."""
    net, trainer = begin(name)
    held = {key: value for key, value in net.collect_params().items() if value.grad_req != "null"}
    loss_fn, losses = gluon.loss.SoftmaxCrossEntropyLoss(), []
    for step, rows in enumerate(shares):
        x, y = batch(step)
        sums: dict[str, Any] = {}
        found, first = [], 0
        for count in rows:
            with autograd.record():
                loss = loss_fn(net(x[first : first + count]), y[first : first + count])
            loss.backward()
            found.append(loss.asnumpy())
            first += count
            for key, value in held.items():
                own = value.grad().asnumpy()
                sums[key] = sums[key] + own if key in sums else own
        for key, value in held.items():
            value.grad()[:] = sums[key]
        trainer.step(BATCH)
        losses.append(np.concatenate(found).tobytes())
    return losses, weights(net)


def main(address: str, folder: Path) -> None:
    for name in ("skips", "normalised", "joined"):
        record = folder / f"{name}.jsonl"
        net, trainer = begin(name)
        net = isthmus.hybridize(net, replicas=["here", address], rates=RATES, shares=record)
        losses = shared(range(STEPS), net, trainer)
        found = weights(net)
        shares = [entry.rows for entry in net.plan.sharing.taken]
        expected, final = alone(name, shares)
        # One process has the statistics of all micro-batches, one after the other; replicas' are averaged.
        found = {key: value for key, value in found.items() if "running" not in key}
        final = {key: value for key, value in final.items() if "running" not in key}
        wrong = networks.differing(found, final) + [
            f"loss {k}" for k, (a, b) in enumerate(zip(losses, expected, strict=True)) if a != b
        ]
        print(json.dumps({"network": name, "shares": shares, "unequal": wrong}), flush=True)
    # Masks are the whole batch's, so this is that of one process but for the order of sums.
    expected_losses = [np.frombuffer(each, "f4") for each in shared(range(STEPS), *begin("thinned"))]
    two = begin("thinned")
    net = isthmus.hybridize(two[0], replicas=["here", address], rates=RATES)
    losses = [np.frombuffer(each, "f4") for each in shared(range(STEPS), net, two[1])]
    off = max(float(np.abs(a - b).max()) for a, b in zip(losses, expected_losses, strict=True))
    print(json.dumps({"network": "thinned", "off": off}), flush=True)
    name = "joined"
    # Rates as they are measured; then again from a checkpoint, with the record of the first time.
    record = folder / "measured.jsonl"
    net, trainer = begin(name)
    net = isthmus.hybridize(net, replicas=["here", address], shares=record)
    shared(range(4), net, trainer)
    nd.waitall()
    net.save_parameters(str(folder / "net.params"))
    trainer.save_states(str(folder / "trainer.states"))
    first = shared(range(4, STEPS), net, trainer)
    end = weights(net)
    net, trainer = begin(name)
    net.load_parameters(str(folder / "net.params"))
    trainer.load_states(str(folder / "trainer.states"))
    net = isthmus.hybridize(net, replicas=["here", address], shares=record, first_step=4)
    again = shared(range(4, STEPS), net, trainer)
    wrong = networks.differing(weights(net), end) + ([] if first == again else ["losses"])
    steps = [json.loads(line)["step"] for line in record.read_text().splitlines()]
    print(json.dumps({"network": name, "again": True, "steps": steps, "unequal": wrong}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
