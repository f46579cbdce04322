"""Plans made by hand, to be shown."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from isthmus.model.slicing import (
    Alternative,
    Prediction,
    Reason,
    Replica,
    Slice,
    SlicePlan,
    Transfer,
)

GIB = 1024**3
MIB = 1024**2


def replica(
    device: str, busy: float, *, share: float = 1.0, need: int = GIB, room: int | None = 8 * GIB
) -> Replica:
    return Replica(device=device, share=share, busy_seconds=busy, memory_bytes=need, capacity_bytes=room)


def latency(**changes: Any) -> SlicePlan:
    """Three tiers; the first transfer takes longest."""
    plan = SlicePlan(
        network="resnet50",
        objective="latency",
        unit="s",
        value=0.0203,
        bound=0.0203,
        gap=0.0,
        exact=True,
        method="minimum cut",
        solve_seconds=0.0041,
        certificate="a flow of 0.0203 s equals the cut",
        slices=(
            Slice(
                ranges=((0, 12),),
                replicas=(replica("edge-1", 0.0125, need=300 * MIB, room=2 * GIB),),
                compute_seconds=0.0042,
                first="conv1",
                last="/layer1/layer1.2/relu_2/Relu_activation",
            ),
            Slice(
                ranges=((12, 30),),
                replicas=(replica("rig-1", 0.0140),),
                compute_seconds=0.0031,
                first="/layer2/conv1/Conv",
                last="pool",
            ),
            Slice(
                ranges=((30, 40),),
                replicas=(replica("cloud", 0.0047, need=100 * MIB, room=None),),
                compute_seconds=0.0021,
                first="fc",
                last="softmax",
            ),
        ),
        transfers=(
            Transfer(
                source=0,
                target=1,
                tensors=("layer1_out",),
                size_bytes=1258291,
                seconds=0.0083,
                dtype="float16",
                leakage_r2=0.31,
            ),
            Transfer(
                source=1,
                target=2,
                tensors=("pool_out", "skip_7_out", "skip_8_out"),
                size_bytes=8192,
                seconds=0.0026,
                transport="relay",
            ),
        ),
        reasons=(
            Reason(device="edge-1", used=True, reason="holds the raw input"),
            Reason(device="rig-1", used=True, reason="computes [12,30) 3 times as fast as edge-1"),
            Reason(device="cloud", used=True, reason="runs what rig-1 cannot"),
            Reason(device="rig-9", used=False, reason="its link of 1.0 MiB/s would add 1.2 s"),
        ),
        prediction=Prediction(latency_seconds=0.0203, samples_per_second=71.4, usd_per_thousand=0.0042),
        alternatives=(
            Alternative(device="edge-1", value=0.0312),
            Alternative(device="rig-1", value=None, reason="raw data may not leave onprem-*"),
        ),
    )
    return replace(plan, **changes)


def alone(**changes: Any) -> SlicePlan:
    """The same network on one device, because a split would be slower."""
    first = latency().slices[0]
    plan = latency(
        value=0.0312,
        bound=0.0312,
        slices=(replace(first, ranges=((0, 40),), last="softmax", compute_seconds=0.0312),),
        transfers=(),
        prediction=Prediction(latency_seconds=0.0312, samples_per_second=32.1),
        reasons=(
            Reason(device="edge-1", used=True, reason="holds the raw input"),
            Reason(device="cloud", used=False, reason="sending to it takes longer than computing here"),
        ),
        best_split=Alternative(device="edge-1 + cloud", value=0.131),
    )
    return replace(plan, **changes)


def pipeline(stages: int = 3, **changes: Any) -> SlicePlan:
    """Stages in a row, each slower than the one before; the second runs on two devices."""
    slices, transfers = [], []
    for k in range(stages):
        replicas: tuple[Replica, ...] = (replica(f"rig-{k}", 0.004 + 0.0007 * k),)
        if k == 1:
            replicas = (replica("rig-1", 0.0044, share=0.6), replica("edge-7", 0.0043, share=0.4))
        slices.append(
            Slice(
                ranges=((5 * k, 5 * k + 5),),
                replicas=replicas,
                compute_seconds=0.0035 + 0.0006 * k,
                first=f"block{k}.attention",
                last=f"block{k}.mlp",
            )
        )
        if k:
            transfers.append(
                Transfer(source=k - 1, target=k, tensors=(f"block{k - 1}",), size_bytes=MIB, seconds=0.0005)
            )
    busiest = max(r.busy_seconds for entry in slices for r in entry.replicas)
    plan = SlicePlan(
        network="vit",
        batch=8,
        objective="throughput",
        unit="samples/s",
        value=1 / busiest,
        bound=1.02 / busiest,
        gap=0.02,
        exact=False,
        method="CP-SAT",
        given_up="the search stopped at 60 s",
        solve_seconds=60.0,
        slices=tuple(slices),
        transfers=tuple(transfers),
        reasons=tuple(
            Reason(device=r.device, used=True, reason="works") for entry in slices for r in entry.replicas
        ),
        prediction=Prediction(latency_seconds=0.03, samples_per_second=1 / busiest),
        alternatives=(Alternative(device="rig-0", value=80.0),),
    )
    return replace(plan, **changes)


def back_and_forth(**changes: Any) -> SlicePlan:
    """A device works twice, because what it has to do last reads the other's result."""
    sent = latency().transfers[0]
    plan = latency(
        slices=(
            Slice(
                ranges=((0, 2), (5, 11)),
                replicas=(replica("edge-1", 0.01),),
                compute_seconds=0.008,
                range_seconds=(0.003, 0.005),
            ),
            Slice(ranges=((2, 5),), replicas=(replica("cloud", 0.01),), compute_seconds=0.002),
        ),
        transfers=(replace(sent, seconds=0.001), replace(sent, source=1, target=0, seconds=0.0015)),
        reasons=(
            Reason(device="edge-1", used=True, reason="holds the raw input"),
            Reason(device="cloud", used=True, reason="alone runs Attention"),
        ),
        value=0.0125,
        bound=0.0125,
    )
    return replace(plan, **changes)
