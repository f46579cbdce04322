"""Generated networks and devices of any size, as documents that the planner reads: what growth is measured on.

Networks are repeated blocks of operators, in four families: a ``chain`` of layers, an encoder of a ``transformer`` by
operators, ``inception`` with branches between concatenations, and a ``residual`` network with shortcuts. Devices stand
in two or three zones: weak ones beside a camera, machines with GPUs, and rented ones beyond a slow link.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import msgspec

from isthmus.model.device import DeviceDescriptor, Link, Rate
from isthmus.model.network import NetworkProfile, Operator, Parameter, Tensor

Add = Callable[..., str]


class _Network:
    """Adds operators until there are enough."""

    def __init__(self, operators: int, seed: int) -> None:
        self.most = operators
        self.random = random.Random(seed)
        self.operators: list[Operator] = []
        self.tensors = [Tensor(name="input", sample_bytes=600_000)]

    def add(self, kind: str, *inputs: str, mflops: float, kib: float, weights_kib: float = 0.0) -> str:
        """Add an operator with one output, its figures varied by up to a third; return the output's name. Beyond the
        last operator its first input is returned: blocks need not count."""
        if len(self.operators) == self.most:
            return inputs[0]
        vary = self.random.uniform(0.75, 1.3)
        name = f"{kind}{len(self.operators)}"
        size = int(kib * 1024 * self.random.uniform(0.75, 1.3))
        weights = (
            (Parameter(name=f"{name}.weight", size_bytes=int(weights_kib * 1024)),) if weights_kib else ()
        )
        self.operators.append(
            Operator(
                name=name,
                kind=kind,
                rate_class=kind,
                inputs=tuple(dict.fromkeys(inputs)),
                outputs=(f"{name}.out",),
                flops=mflops * 1e6 * vary,
                moved_bytes=3.0 * size,
                parameters=weights,
            )
        )
        self.tensors.append(Tensor(name=f"{name}.out", sample_bytes=size))
        return f"{name}.out"

    @property
    def full(self) -> bool:
        return len(self.operators) == self.most


def _chain(net: _Network, x: str) -> str:
    return net.add("layer", x, mflops=80, kib=240, weights_kib=900)


def _transformer(net: _Network, x: str) -> str:
    """One layer of an encoder of width 512 for 128 tokens."""
    y = net.add("norm", x, mflops=0.5, kib=256)
    q, k, v = (net.add("matmul", y, mflops=67, kib=256, weights_kib=1024) for _ in range(3))
    scores = net.add("product", q, k, mflops=17, kib=512)
    mixed = net.add("product", net.add("softmax", scores, mflops=1, kib=512), v, mflops=17, kib=256)
    x = net.add("add", net.add("matmul", mixed, mflops=67, kib=256, weights_kib=1024), x, mflops=0.1, kib=256)
    y = net.add("matmul", net.add("norm", x, mflops=0.5, kib=256), mflops=268, kib=1024, weights_kib=4096)
    y = net.add("matmul", net.add("gelu", y, mflops=2, kib=1024), mflops=268, kib=256, weights_kib=4096)
    return net.add("add", y, x, mflops=0.1, kib=256)


def _inception(net: _Network, x: str) -> str:
    """Four branches of one to three convolutions, and a concatenation."""
    ends = []
    for length in (1, 2, 3, 2):
        y = x
        for _ in range(length):
            y = net.add("conv", y, mflops=60, kib=90, weights_kib=300)
        ends.append(y)
    return net.add("concat", *ends, mflops=0.1, kib=380)


def _residual(net: _Network, x: str) -> str:
    y = net.add("conv", x, mflops=115, kib=400, weights_kib=290)
    y = net.add("conv", net.add("relu", y, mflops=0.1, kib=400), mflops=115, kib=400, weights_kib=290)
    return net.add("relu", net.add("add", y, x, mflops=0.1, kib=400), mflops=0.1, kib=400)


FAMILIES: dict[str, Callable[[_Network, str], str]] = {
    "chain": _chain,
    "transformer": _transformer,
    "inception": _inception,
    "residual": _residual,
}


def network(family: str, operators: int, seed: int = 0) -> NetworkProfile:
    """Return a network of a family with so many operators; the same seed gives the same network."""
    net, x = _Network(operators, seed), "input"
    while not net.full:
        x = FAMILIES[family](net, x)
    read = {name for operator in net.operators for name in operator.inputs}
    ends = tuple(name for operator in net.operators for name in operator.outputs if name not in read)
    return NetworkProfile(
        name=f"{family}-{operators}",
        inputs=("input",),
        outputs=ends,
        operators=tuple(net.operators),
        tensors=tuple(net.tensors),
        source="generated",
    )


ZONES = {
    # kind, flop/s, bytes/s and overhead of the zone's slowest device, watts, US dollars an hour
    "onprem-line": ("edge", 2e10, 5e9, 8e-6, 6.0, 0.0),
    "onprem-hall": ("rig", 3e12, 2e11, 1.5e-5, 150.0, 0.3),
    "aws:eu-central-1": ("lambda", 5e10, 1e10, 6e-6, 10.0, 0.1),
}
PACES = {
    # bytes/s and seconds between two zones; within one as for its own
    ("onprem-line", "onprem-line"): (1.1e8, 4e-4),
    ("onprem-hall", "onprem-hall"): (1.2e9, 1e-4),
    ("aws:eu-central-1", "aws:eu-central-1"): (6e7, 1e-3),
    ("onprem-line", "onprem-hall"): (1.1e8, 4e-4),
    ("onprem-line", "aws:eu-central-1"): (2.5e6, 2e-2),
    ("onprem-hall", "aws:eu-central-1"): (1.2e7, 2e-2),
}
MODELS = (1.0, 1.6, 2.7)
"""Speeds of the models of device that a zone has, over its slowest."""


def short_memory(profile: NetworkProfile, count: int, *, training: bool) -> int:
    """Return bytes for each of ``count`` devices of which all together have half as much again as a plan needs.

    ``training``: gradients, two states of the optimizer, and the activations of a few micro-batches as well.
    """
    weights = [operator.parameter_bytes for operator in profile.operators]
    outputs = [tensor.sample_bytes for tensor in profile.tensors]
    needed = sum(weights) * (4 if training else 1) + (sum(outputs) * min(8, count) if training else 0)
    largest = max(weights) * (4 if training else 1) + 8 * max(outputs)
    return int(1.5 * needed / count) + 2 * largest


def devices(count: int, *, memory_bytes: int | None = None, zones: int = 3) -> list[DeviceDescriptor]:
    """Return devices of up to ``zones`` zones, of three models each, so that some are alike; two zones up to four
    devices. In one zone each pays the same for a transfer, whoever is at the other end.

    ``memory_bytes``: of each; without it, more than any of these networks needs.
    """
    names = list(ZONES)[1:2] if zones == 1 else list(ZONES)[: 2 if count <= 4 else zones]
    return [
        _device(k, names[k % len(names)], k // len(names) % len(MODELS), memory_bytes, names)
        for k in range(count)
    ]


def _device(
    k: int, zone: str, model: int, memory_bytes: int | None, zones: Sequence[str]
) -> DeviceDescriptor:
    kind, flops, moved, overhead, watts, price = ZONES[zone]
    speed = MODELS[model]
    links = []
    for other in zones:
        pace, latency = PACES.get((zone, other)) or PACES[other, zone]
        links.append(Link(to=other, bytes_per_second=pace, latency_seconds=latency))
    return msgspec.convert(
        {
            "id": f"{kind}-{k}",
            "kind": kind,
            "zone": zone,
            "arch": "x86_64",
            "cores": 4,
            "memory_bytes": memory_bytes or 2**40,
            "disk_free_bytes": 2**40,
            "usage": ("inference", "training"),
            "rates": {
                "*": Rate(
                    flops_per_second=flops * speed, bytes_per_second=moved * speed, overhead_seconds=overhead
                )
            },
            "links": links,
            "power_watts": watts * speed,
            "price_per_hour_usd": price * speed,
        },
        DeviceDescriptor,
    )
