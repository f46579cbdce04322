"""The mixed-integer model equals trying every plan: memory, limits, any links, co-location."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable

import numpy as np
import pytest
from sum_instances import any_links, best, tiers, with_limit

from isthmus.errors import NoPlan
from isthmus.planning.slicing import cut, sums, sums_model
from isthmus.planning.slicing.arrays import stages_of
from isthmus.planning.slicing.case import Graph, Signal, SumCase
from isthmus.planning.slicing.descent import improve
from isthmus.planning.slicing.verify import verify, violations

SECONDS = 30.0


def with_memory(dice: random.Random) -> SumCase:
    return tiers(dice, tight=True, monotone=dice.random() < 0.7)


def with_price(dice: random.Random) -> SumCase:
    case = tiers(dice, tight=dice.random() < 0.2, monotone=dice.random() < 0.6)
    return with_limit(dice, case, dice.uniform(-0.05, 0.9))


def with_any_links(dice: random.Random) -> SumCase:
    return any_links(dice, tight=dice.random() < 0.6)


def unlimited(case: SumCase) -> SumCase:
    return dataclasses.replace(case, capacity_bytes=np.full(len(case.devices), np.inf), limits=())


@pytest.mark.slow
@pytest.mark.parametrize("make", [with_memory, with_price, with_any_links])
def test_a_thousand_cases_equal_brute_force(make: Callable[[random.Random], SumCase]) -> None:
    dice = random.Random(21)
    binds = impossible = modelled = 0
    for _ in range(1000):
        case = make(dice)
        least = best(case)
        binds += best(unlimited(case)) < least * (1 - 1e-9)
        if least == np.inf:
            impossible += 1
            with pytest.raises(NoPlan):
                sums.best(case, time_limit_seconds=SECONDS)
            continue
        found = sums.best(case, time_limit_seconds=SECONDS)
        modelled += found.method == sums.METHOD
        assert found.exact
        assert verify(case, found) == pytest.approx(least, rel=1e-9)
        assert found.bound <= least * (1 + 1e-12)
    assert binds > 1000 / 3
    assert modelled > 250
    assert 0 < impossible < 400


def test_the_model_agrees_with_the_cut_where_both_apply() -> None:
    dice = random.Random(22)
    for _ in range(30):
        case = tiers(dice)
        if best(case) < np.inf:
            found = sums.solve(case, time_limit_seconds=SECONDS)
            assert found.method == sums.METHOD
            assert found.value == pytest.approx(sums.best(case, time_limit_seconds=SECONDS).value, rel=1e-9)


def test_a_warm_plan_that_is_exact_is_returned() -> None:
    case = tiers(random.Random(23))
    warm = cut.minimum_cut(case)
    assert sums.solve(case, time_limit_seconds=SECONDS, warm=warm) is warm


def wide(n: int = 120) -> SumCase:
    """Memory binds, and every operator likes another device."""
    dice = random.Random(24)
    signals = [Signal(v, tuple(sorted({v + 1, min(n - 1, v + 7)})), dice.uniform(0, 2)) for v in range(n - 1)]
    links = np.array([[0 if a == b else dice.uniform(0.1, 2) for b in range(6)] for a in range(6)])
    return SumCase(
        graph=Graph(tuple(f"op{v}" for v in range(n)), tuple(signals)),
        devices=tuple(f"d{k}" for k in range(6)),
        cost=np.array([[dice.lognormvariate(0, 1) for _ in range(6)] for _ in range(n)]),
        memory_bytes=np.array([float(dice.randint(1, 9)) for _ in range(n)]),
        capacity_bytes=np.full(6, n * 5.0 / 5.5),
        link_fixed=links / 3,
        link_per_size=links,
    )


def test_a_time_limit_leaves_a_plan_a_bound_and_what_was_given_up() -> None:
    case = wide()
    found = sums.solve(case, time_limit_seconds=0.15)
    assert violations(case, found.stages) == []
    assert 0 < found.bound <= found.value
    assert not found.exact
    assert found.given_up == "the search ended at its time limit of 0.15 s"


def test_a_model_too_large_to_build_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sums_model, "MOST_COLUMNS", 10)
    found = sums.solve(wide(), time_limit_seconds=5)
    assert not found.exact
    assert "was not built" in found.given_up


def test_the_start_breaks_nothing_and_descends() -> None:
    dice = random.Random(25)
    met = 0
    for _ in range(60):
        case = tiers(dice, tight=True, monotone=dice.random() < 0.5)
        start = improve(case, None, seconds=5)
        if start is not None:
            met += 1
            stages = stages_of(case.graph, start)
            assert violations(case, stages) == []
    assert met > 20


def test_a_limit_that_is_met_to_the_last_digit_is_met() -> None:
    """0.1 + 0.2 is above 0.3 by one rounding: the verifier allows it, and so does the model."""
    case = dataclasses.replace(
        tiers(random.Random(26)),
        graph=Graph(("a", "b"), (Signal(0, (1,), 1.0),)),
        devices=("x", "y"),
        cost=np.array([[1.0, 5.0], [1.0, 5.0]]),
        memory_bytes=np.array([0.1, 0.2]),
        capacity_bytes=np.array([0.3, np.inf]),
        link_fixed=np.zeros((2, 2)),
        link_per_size=np.ones((2, 2)),
    )
    assert sums.best(case, time_limit_seconds=SECONDS).value == 2.0
    assert sums.solve(case, time_limit_seconds=SECONDS).value == 2.0
