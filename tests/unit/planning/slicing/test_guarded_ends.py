"""A limit on leakage leaves a plan wherever all may stay inside, however many cuts are refused before."""

from __future__ import annotations

import random

import pytest
from leakage_cases import LIMITED, device, profile, report
from msgspec.structs import replace

from isthmus.errors import NoPlan
from isthmus.model.device import DeviceDescriptor, Link
from isthmus.model.leakage import LeakageReport
from isthmus.model.network import NetworkProfile
from isthmus.planning.slicing.planner import make_plan
from isthmus.planning.slicing.request import Request

OPERATORS = 40


def near(name: str, zone: str, other: str) -> DeviceDescriptor:
    link = Link(to=other, bytes_per_second=1e9, latency_seconds=1e-6)
    return replace(device(name, zone, ()), links=(link,))


def tangled() -> tuple[NetworkProfile, list[DeviceDescriptor], LeakageReport]:
    """Every tensor may leave alone, no two together, and almost every place to cut has several: leaving would pay."""
    draw = random.Random(9)
    operators = [("x", "t0"), ("x", "s0"), ("x", "s1")]
    for v in range(1, OPERATORS):
        read = [f"t{v - 1}", draw.choice(["s0", "s1"] + [made for _, made in operators[-4:]])]
        read.append(draw.choice([made for _, made in operators[-5:]]))
        operators.append((" ".join(dict.fromkeys(read)), f"t{v}"))
    seconds = {
        "here": [draw.uniform(1, 2) for _ in operators],
        "there": [draw.uniform(0.05, 0.2) for _ in operators],
    }
    network = profile(*operators, seconds=seconds, size=100)
    devices = [near("here", "home", "there"), near("there", "aws", "here")]
    return network, devices, report({made: 0.4 for _, made in operators})


@pytest.mark.parametrize("time_limit_seconds", [60.0, 0.01], ids=["with time", "without"])
def test_a_plan_is_found_after_many_are_refused(time_limit_seconds: float) -> None:
    network, devices, figures = tangled()
    asked = Request(policy=LIMITED, time_limit_seconds=time_limit_seconds)
    plan = make_plan(network, devices, asked, leakage=figures)
    assert all(len(entry.tensors) == 1 for entry in plan.transfers if entry.leakage_r2 is not None)
    assert {tensor for entry in plan.transfers for tensor in entry.tensors} <= {"t39"}
    assert plan.bound <= plan.value
    assert plan.given_up


def test_where_not_all_may_stay_inside_it_is_refused() -> None:
    network, devices, figures = tangled()
    here, there = devices
    small = replace(here, memory_bytes=100 * (OPERATORS // 2))
    with pytest.raises(NoPlan, match=r"no plan keeps what leaves home below R² 0\.5"):
        make_plan(network, [small, there], Request(policy=LIMITED, time_limit_seconds=2.0), leakage=figures)
