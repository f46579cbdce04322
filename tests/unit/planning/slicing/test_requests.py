"""What a plan may be asked for, who takes part in it, and what the policy bars whatever was measured."""

from __future__ import annotations

import math

import pytest
from leakage_cases import HERE, THERE, profile
from msgspec.structs import replace

from isthmus.errors import InvalidCase, NoPlan
from isthmus.model.policy import DataPolicy
from isthmus.planning.slicing.planner import make_plan
from isthmus.planning.slicing.problem import problem
from isthmus.planning.slicing.request import Request

LINE = profile(("x", "a"), ("a", "y"), seconds={"here": [0.1] * 2, "there": [0.01] * 2})


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan, math.inf])
def test_a_time_limit_is_finite(seconds: float) -> None:
    with pytest.raises(InvalidCase, match="needs a time limit above 0 s, and a finite one; asked was"):
        Request(time_limit_seconds=seconds)


@pytest.mark.parametrize("limit", [-1.0, math.nan, math.inf])
def test_a_deadline_and_a_price_are_finite(limit: float) -> None:
    with pytest.raises(InvalidCase, match="needs a finite deadline, in seconds, of 0 or more; asked was"):
        Request(deadline_seconds=limit)
    with pytest.raises(InvalidCase, match="needs a finite price, in USD, of 0 or more; asked was"):
        Request(max_usd_per_thousand=limit)


def test_micro_batches_are_at_most_ten_thousand() -> None:
    assert Request(microbatches=10_000).microbatches == 10_000
    with pytest.raises(InvalidCase, match="at most 10,000 micro-batches of a step; asked were 10,001"):
        Request(microbatches=10_001)


def test_devices_that_are_all_too_small_are_told_with_their_bytes() -> None:
    small = [replace(HERE, memory_bytes=1 << 20), replace(THERE, memory_bytes=1 << 20)]
    with pytest.raises(NoPlan) as refused:
        make_plan(LINE, small, Request(batch=1_000_000))
    assert str(refused.value) == (
        "no device can take part: here: one operator reads and writes 1.9 GiB, and it has 1.0 MiB; "
        "there: one operator reads and writes 1.9 GiB, and it has 1.0 MiB; "
        "a smaller batch than 1,000,000, or a device with more than 1.9 GiB would make a plan possible"
    )
    assert "there" in {replica.device for s in make_plan(LINE, small, ANY).slices for replica in s.replicas}


def test_devices_that_are_all_for_something_else_are_told() -> None:
    others = [replace(device, usage=("training",)) for device in (HERE, THERE)]
    with pytest.raises(NoPlan, match="there: it is not for inference; a device for inference would make"):
        make_plan(LINE, others, Request())


def test_a_device_that_is_left_out_is_told_where_there_is_no_plan() -> None:
    unable, training = replace(HERE, unsupported=("Gemm",)), replace(THERE, usage=("training",))
    with pytest.raises(
        NoPlan, match="would make a plan possible; left out are there: it is not for inference"
    ):
        make_plan(LINE, [unable, training], ANY)


ANY = Request(policy=DataPolicy(may_leave="everything"))


def test_bodies_stay_inside_unless_everything_may_leave() -> None:
    """A profile may name none of the tensors that the bodies of an If read."""
    body = replace(LINE.operators[1], kind="If")
    network = replace(LINE, operators=(LINE.operators[0], body))
    policy = DataPolicy(zones=("home",), may_leave="activations")
    for operators, may_leave in ((LINE, True), (network, False)):
        given = problem(operators, [HERE, THERE], Request(policy=policy, leaky=frozenset("x")))
        assert math.isfinite(given.seconds[1, 1]) == may_leave
    assert math.isfinite(problem(network, [HERE, THERE], ANY).seconds[1, 1])
