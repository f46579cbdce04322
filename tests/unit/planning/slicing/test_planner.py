"""From a profile and devices to a plan: objectives, policy, explanations, stability."""

from __future__ import annotations

import msgspec
import pytest

from isthmus import documents
from isthmus.errors import InvalidCase, NoPlan
from isthmus.model.device import DeviceDescriptor, Link
from isthmus.model.network import NetworkProfile, Operator, Parameter, Tensor
from isthmus.model.policy import DataPolicy
from isthmus.model.slicing import SlicePlan
from isthmus.planning.slicing.planner import make_plan
from isthmus.planning.slicing.request import Request

MIB = 2**20
EVERYTHING = DataPolicy(may_leave="everything")


def profile(count: int = 6, seconds: float = 0.1) -> NetworkProfile:
    """A chain whose tensors shrink; the edge takes ten times as long as the server."""
    operators = tuple(
        Operator(
            name=f"layer{v}",
            kind="Gemm",
            rate_class="gemm",
            inputs=(f"t{v}",),
            outputs=(f"t{v + 1}",),
            parameters=(Parameter(name=f"w{v}", size_bytes=10 * MIB),),
            seconds={"edge": seconds, "server": seconds / 10, "other": seconds / 10},
        )
        for v in range(count)
    )
    tensors = tuple(Tensor(name=f"t{v}", sample_bytes=MIB >> v) for v in range(count + 1))
    return NetworkProfile(
        name="chain", inputs=("t0",), outputs=(f"t{count}",), operators=operators, tensors=tensors
    )


def device(name: str, zone: str, *, links: tuple[Link, ...] = (), **more: object) -> DeviceDescriptor:
    given = {
        "id": name,
        "kind": "rig",
        "zone": zone,
        "arch": "x86_64",
        "cores": 2,
        "memory_bytes": 1024 * MIB,
        "disk_free_bytes": 0,
        "usage": ("inference", "training"),
        "links": links,
        **more,
    }
    return msgspec.convert(given, DeviceDescriptor)


def pair(pace: float, **server: object) -> list[DeviceDescriptor]:
    """An edge device where the data lies, and a server over a link of ``pace`` MiB/s."""
    link = Link(to="server", bytes_per_second=pace * MIB, latency_seconds=0.001)
    return [
        device("edge", "edge-shop", links=(link,), price_per_hour_usd=0.01, power_watts=5.0),
        device("server", "aws", price_per_hour_usd=1.0, power_watts=100.0, **server),
    ]


def test_a_fast_link_takes_all_and_a_slow_one_nothing() -> None:
    fast = make_plan(profile(), pair(1000), Request(policy=EVERYTHING))
    assert [r.device for r in fast.reasons if r.used] == ["server"]
    slow = make_plan(profile(), pair(0.001), Request(policy=EVERYTHING))
    assert [r.device for r in slow.reasons if r.used] == ["edge"]
    assert slow.value == pytest.approx(0.6)
    assert slow.exact
    assert not slow.split
    remote = next(entry for entry in slow.alternatives if entry.device == "server")
    assert remote.value is not None
    assert remote.value > slow.value


def test_where_splitting_loses_both_times_are_known() -> None:
    slow = make_plan(profile(), pair(0.001), Request(policy=EVERYTHING))
    assert slow.best_split is not None
    assert slow.best_split.value is not None
    assert slow.best_split.device == "edge + server"
    assert slow.best_split.value > slow.value
    assert make_plan(profile(), pair(4), Request(policy=EVERYTHING)).best_split is None


def test_what_costs_nothing_is_a_plan_too() -> None:
    idle = [msgspec.structs.replace(entry, power_watts=0.0) for entry in pair(4)]
    plan = make_plan(profile(), idle, Request(objective="energy", policy=EVERYTHING))
    assert (plan.value, plan.gap) == (0.0, 0.0)


def test_in_between_it_splits_and_beats_both() -> None:
    plan = make_plan(profile(), pair(4), Request(policy=EVERYTHING))
    assert plan.split
    assert plan.exact
    assert all(entry.value is None or entry.value > plan.value for entry in plan.alternatives)
    assert plan.value == pytest.approx(plan.prediction.latency_seconds)
    assert [t.tensors for t in plan.transfers] == [(f"t{plan.slices[0].ranges[-1][1]}",)]


def test_raw_data_stays_and_so_does_what_is_too_much_like_it() -> None:
    policy = DataPolicy(zones=("edge-*",), may_leave="activations")
    plan = make_plan(profile(), pair(1000), Request(policy=policy))
    assert plan.slices[0].replicas[0].device == "edge"
    assert plan.slices[0].ranges == ((0, 1),)
    plan = make_plan(profile(), pair(1000), Request(policy=policy, leaky=frozenset({"t1", "t2"})))
    assert plan.slices[0].ranges == ((0, 3),)


def test_memory_that_one_device_lacks_is_found_on_two() -> None:
    small = [msgspec.structs.replace(entry, memory_bytes=40 * MIB) for entry in pair(10)]
    plan = make_plan(profile(), small, Request(policy=EVERYTHING))
    assert plan.split
    assert all(entry.value is None and "bytes" in entry.reason for entry in plan.alternatives)
    tiny = [msgspec.structs.replace(entry, memory_bytes=25 * MIB) for entry in small]
    with pytest.raises(NoPlan, match="more on"):
        make_plan(profile(), tiny, Request(policy=EVERYTHING))


@pytest.mark.parametrize("objective", ["latency", "throughput", "cost", "energy", "step"])
def test_every_objective_gives_a_plan_that_can_be_written_and_read(objective: str) -> None:
    asked = {"objective": objective, "policy": EVERYTHING}
    usage = "training" if objective == "step" else "inference"
    request = msgspec.convert({**msgspec.to_builtins(asked), "usage": usage}, Request)
    plan = make_plan(profile(), pair(4), request)
    assert documents.decode(SlicePlan, documents.encode(plan), "plan") == plan
    assert sum(end - start for entry in plan.slices for start, end in entry.ranges) == 6
    worse = plan.bound < plan.value if objective == "throughput" else plan.bound > plan.value
    assert not worse or plan.bound == pytest.approx(plan.value)
    assert plan.prediction.usd_per_thousand
    assert plan.prediction.joules_per_thousand


def test_a_plan_in_force_moves_only_for_a_gain() -> None:
    old = make_plan(profile(), pair(4), Request(policy=EVERYTHING))
    same = make_plan(profile(), pair(4.2), Request(policy=EVERYTHING), current=old)
    assert [entry.ranges for entry in same.slices] == [entry.ranges for entry in old.slices]
    lost = make_plan(profile(), pair(4)[:1], Request(policy=EVERYTHING), current=old)
    assert not lost.split
    slower = make_plan(profile(), pair(0.001), Request(policy=EVERYTHING), current=old)
    assert not slower.split


def test_a_deadline_beside_a_cost() -> None:
    cheap = make_plan(profile(), pair(4), Request(objective="cost", policy=EVERYTHING))
    in_time = make_plan(
        profile(), pair(4), Request(objective="cost", policy=EVERYTHING, deadline_seconds=0.4)
    )
    assert cheap.prediction.latency_seconds > 0.4 >= in_time.prediction.latency_seconds
    assert in_time.value > cheap.value
    with pytest.raises(NoPlan, match="deadline"):
        make_plan(profile(), pair(4), Request(objective="cost", policy=EVERYTHING, deadline_seconds=0.01))


@pytest.mark.parametrize(
    ("devices", "request_", "said"),
    [
        ([], Request(), "at least one device"),
        (pair(1)[:1] * 2, Request(), "different names"),
        (pair(1), Request(source="nobody"), "none of edge, server"),
    ],
)
def test_what_cannot_be_planned_is_said(
    devices: list[DeviceDescriptor], request_: Request, said: str
) -> None:
    with pytest.raises(InvalidCase, match=said):
        make_plan(profile(), devices, request_)
