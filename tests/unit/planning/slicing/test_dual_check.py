"""Multipliers prove what the linear relaxation's value is, never more than the best plan, and cannot be made up."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable

import numpy as np
import pytest
from sum_instances import any_links, best, tiers, with_limit

from isthmus.errors import PlanUnsound
from isthmus.planning.slicing import choose, sums, sums_model
from isthmus.planning.slicing.case import SumCase
from isthmus.planning.slicing.dual_check import check_dual, proven
from isthmus.planning.slicing.solution import DualCertificate


def with_memory(dice: random.Random) -> SumCase:
    return tiers(dice, tight=True, monotone=dice.random() < 0.5)


def with_price(dice: random.Random) -> SumCase:
    case = tiers(dice, tight=dice.random() < 0.3, monotone=dice.random() < 0.5)
    return with_limit(dice, case, dice.uniform(0, 0.9))


def with_any_links(dice: random.Random) -> SumCase:
    return any_links(dice, tight=dice.random() < 0.5)


def relaxation(case: SumCase) -> tuple[float, DualCertificate] | None:
    """Return HiGHS's value of the linear relaxation, and the multipliers; None where it has no solution."""
    model = sums_model.build(case)
    assert model is not None
    outcome = model.programme.solve(9, relaxed=True)
    found = model.certificate(outcome)
    return (outcome.bound, found) if found is not None else None


@pytest.mark.parametrize("make", [with_memory, with_price, with_any_links])
def test_the_proven_bound_is_the_relaxations_value(make: Callable[[random.Random], SumCase]) -> None:
    dice, compared, charged = random.Random(61), 0, 0
    for _ in range(80):
        case = make(dice)
        least = best(case)
        both = relaxation(case) if least < np.inf else None
        if both is None:
            continue
        compared += 1
        value, certificate = both
        bound = proven(case, certificate)
        assert bound == pytest.approx(value, rel=1e-6, abs=1e-9)
        assert bound <= least
        charged += bool(certificate.memory.any() or certificate.limits.any())
    assert compared > 40
    assert charged > 5


def test_no_multipliers_prove_more_than_the_best_plan_costs() -> None:
    dice, rng, tried = random.Random(62), np.random.default_rng(62), 0
    for _ in range(60):
        case = dice.choice([with_memory, with_price, with_any_links])(dice)
        both = relaxation(case)
        least = best(case)
        if both is None or least == np.inf:
            continue
        for scale in (0.01, 1.0, 10.0):
            wrong = {
                name: np.abs(values + rng.normal(0, scale, values.shape))
                if name != "margins"
                else values + rng.normal(0, scale, values.shape)
                for name, values in vars(both[1]).items()
                if name != "bound"
            }
            wrong["memory"] = np.where(np.isfinite(case.capacity_bytes), wrong["memory"], 0.0)
            tried += 1
            assert proven(case, dataclasses.replace(both[1], **wrong)) <= least
    assert tried > 60


def certified() -> tuple[SumCase, DualCertificate]:
    dice = random.Random(63)
    while True:
        case = with_memory(dice)
        if best(case) < np.inf and len(case.devices) > 2 and len(case.graph.names) > 3:
            found = sums.solve(case, time_limit_seconds=9)
            assert isinstance(found.certificate, DualCertificate)
            if found.certificate.memory.any() and found.certificate.sent.size:
                return case, found.certificate


def test_a_plan_comes_with_what_its_relaxation_proves() -> None:
    case, certificate = certified()
    assert check_dual(case, certificate) == certificate.bound
    found = choose.solve(case, time_limit_seconds=9)
    assert certificate.bound <= found.bound <= found.value
    assert certificate.describe(certificate.bound).endswith("whose value no plan is below")
    assert certificate.describe(certificate.bound * 1.1).endswith("the rest of the bound is the solver's own")


@pytest.mark.parametrize("name", ["margins", "sent", "memory"])
def test_changed_multipliers_are_refused(name: str) -> None:
    case, certificate = certified()
    values = getattr(certificate, name).copy()
    values.flat[int(np.abs(values).argmax())] += 5.0 if name != "memory" else values.max()
    with pytest.raises(PlanUnsound, match="its multipliers prove"):
        check_dual(case, dataclasses.replace(certificate, **{name: values}))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"bound": 1e9}, "claims 1000000000.0"),
        ({"memory": np.array([-1.0, 0, 0])}, "at least 0"),
        ({"memory": np.array([np.inf, 0, 0])}, "must be finite"),
        ({"limits": np.ones(1)}, "need the shape"),
        ({"margins": np.zeros((1, 2, 3))}, "need the shape"),
    ],
)
def test_what_is_no_certificate_of_the_case_is_refused(change: dict[str, object], said: str) -> None:
    case, certificate = certified()
    if "memory" in change:
        change = {"memory": np.resize(change["memory"], len(case.devices))}  # type: ignore[arg-type]
    with pytest.raises(PlanUnsound, match=said):
        check_dual(case, dataclasses.replace(certificate, **change))  # type: ignore[arg-type]


def test_memory_without_a_limit_cannot_be_charged() -> None:
    case, certificate = certified()
    free = dataclasses.replace(case, capacity_bytes=np.full(len(case.devices), np.inf))
    with pytest.raises(PlanUnsound, match="no limit"):
        check_dual(free, certificate)
