"""Networks, devices and figures to plan with under a limit on leakage."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from isthmus.model.device import DeviceDescriptor, Link
from isthmus.model.leakage import Leakage, LeakageReport
from isthmus.model.network import NetworkProfile, Operator, Parameter, Tensor
from isthmus.model.policy import DataPolicy

LIMIT = 0.5
LIMITED = DataPolicy(zones=("home",), may_leave="activations", max_leakage_r2=LIMIT)
DIGEST = "d" * 64


def profile(*operators: tuple[str, str], seconds: dict[str, list[float]], size: int = 1000) -> NetworkProfile:
    """Operators as ``("x", "a"), ("a b", "y")``: what each reads and makes; ``x`` goes in, the last comes out."""
    made = [output for _, output in operators]
    return NetworkProfile(
        name="net",
        digest=DIGEST,
        inputs=("x",),
        outputs=(made[-1],),
        operators=tuple(
            Operator(
                name=f"to_{output}",
                kind="Gemm",
                rate_class="gemm",
                inputs=tuple(inputs.split()),
                outputs=(output,),
                parameters=(Parameter(name=f"w{v}", size_bytes=100),),
                seconds={device: times[v] for device, times in seconds.items()},
            )
            for v, (inputs, output) in enumerate(operators)
        ),
        tensors=tuple(Tensor(name=name, sample_bytes=size) for name in ("x", *made)),
    )


def device(name: str, zone: str, others: Iterable[str], **more: object) -> DeviceDescriptor:
    given = {
        "id": name,
        "kind": "rig",
        "zone": zone,
        "arch": "x86_64",
        "cores": 1,
        "memory_bytes": 1 << 30,
        "disk_free_bytes": 0,
        "usage": ("inference", "training"),
        "links": [Link(to=other, bytes_per_second=1e6, latency_seconds=0.001) for other in others],
        **more,
    }
    return msgspec.convert(msgspec.to_builtins(given), DeviceDescriptor)


HERE, THERE = device("here", "home", ["there"]), device("there", "aws", ["here"])


def report(figures: dict[str, float]) -> LeakageReport:
    """Figures by cut: ``{"a": 0.4, "a b": 0.7}``."""
    return LeakageReport(
        model="net.onnx",
        model_digest=DIGEST,
        samples_digest="5" * 64,
        fit_samples=1000,
        held_out_samples=500,
        seed=0,
        cuts=tuple(
            Leakage(tensors=tuple(cut.split()), r2=r2, decoder="rbf", tried={"rbf": r2}, elements=1)
            for cut, r2 in figures.items()
        ),
    )
