"""Beyond the exact range: an annealed order of devices, the bound of divided work, and time limits that hold."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest
from slicing_instances import brute_force, chain, dag, load_case

from isthmus.planning.slicing import divided, lattice, ranges
from isthmus.planning.slicing.blocks import contract
from isthmus.planning.slicing.case import Graph, LoadCase
from isthmus.planning.slicing.verify import objective, violations


def instance(seed: int, *, operators: int = 5) -> LoadCase:
    """Return a contiguous case whose links differ by pair."""
    dice = random.Random(seed)
    kinds = dice.choice([[1, 1], [1, 1, 1], [2, 1]])
    graph = chain(dice, operators) if seed % 2 else dag(dice, operators, grouped=dice.random() < 0.3)
    case: LoadCase = load_case(dice, graph, kinds, contiguous=True, overlap=dice.random() < 0.2)
    m = sum(kinds)
    pairs = np.array([[dice.uniform(0, 1) for _ in range(m)] for _ in range(m)])
    return dataclasses.replace(case, send_seconds=pairs, receive_seconds=pairs.T.copy())


def test_plans_hold_and_are_near_the_best() -> None:
    ratios, possible = [], 0
    for seed in range(20):
        case = instance(seed)
        best = brute_force(case)
        found = ranges.improve(case, contract(case, contiguous=True), seconds=0.01)
        if best is None:
            assert found is None, seed
            continue
        possible += 1
        if found is not None:
            assert not violations(case, found), seed
            ratios.append(objective(case, found) / best[0])
    assert min(ratios) >= 1 - 1e-9
    assert np.median(ratios) == pytest.approx(1.0)
    assert len(ratios) >= 0.8 * possible


def test_a_search_ends_where_no_plan_can_be_better() -> None:
    case = instance(8)
    blocks = contract(case, contiguous=True)
    anything = ranges.improve(case, blocks, seconds=0.01, goal=float("inf"))
    assert anything is not None
    assert not violations(case, anything)


def test_nothing_is_found_where_nothing_fits() -> None:
    case = dataclasses.replace(instance(1), capacity_bytes=np.zeros(len(instance(1).devices)))
    case = dataclasses.replace(case, memory_bytes=np.ones(len(case.graph.names)))
    assert ranges.improve(case, contract(case, contiguous=True), seconds=0.01) is None


def pair(
    seconds: list[list[float]], memory: list[float], room: list[float], *edges: tuple[int, int]
) -> LoadCase:
    """Return a contiguous case of operators in an order, between which nothing is sent."""
    n, m = np.shape(seconds)
    return LoadCase(
        Graph(tuple(f"op{v}" for v in range(n)), (), order=edges),
        tuple(f"d{k}" for k in range(m)),
        np.array(seconds),
        np.array(memory),
        np.array(room),
        send_seconds=np.zeros((m, m)),
        receive_seconds=np.zeros((m, m)),
    )


@pytest.mark.parametrize("last", [0.0, 1e-30, np.inf])
def test_operators_that_take_next_to_no_time_are_placed_too(last: float) -> None:
    """The last one has no room beside the first."""
    case = pair([[5e9, 5e9], [last, last], [0.0, 0.0]], [6.0, 1.0, 1.0], [6.0, 1.0], (0, 1), (1, 2))
    assert brute_force(case) is None
    assert ranges.improve(case, contract(case, contiguous=True), seconds=0.01) is None
    if np.isfinite(last):
        roomy = dataclasses.replace(case, capacity_bytes=np.array([2.0, 6.0]))
        found = ranges.improve(roomy, contract(roomy, contiguous=True), seconds=0.01)
        assert found is not None
        assert not violations(roomy, found)


def test_work_divided_at_will_is_a_bound_and_close_to_it_when_operators_are_added_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dice = random.Random(3)
    case = load_case(dice, chain(dice, 60), [2, 3], contiguous=True)
    exact = divided.divisible(case)
    monkeypatch.setattr(divided, "MOST_CELLS", 30)
    rough = divided.divisible(case)
    assert 0.8 * exact <= rough <= exact * (1 + 1e-9)
    assert exact <= lattice.solve(case).value


def test_an_operator_that_runs_nowhere_proves_nothing() -> None:
    dice = random.Random(3)
    case = load_case(dice, chain(dice, 4), [1], contiguous=True)
    barred = np.full_like(case.seconds, np.inf)
    assert divided.divisible(dataclasses.replace(case, seconds=barred)) == 0.0


def test_a_table_that_is_not_filled_in_time_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    dice = random.Random(5)
    case = load_case(dice, dag(dice, 14), [1, 1], contiguous=True)
    case = dataclasses.replace(case, capacity_bytes=np.full(2, np.inf))
    exact = lattice.solve(case)
    late = lattice.solve(case, time_limit_seconds=1e-9)
    assert exact.exact
    assert not late.exact
    assert "was ended after 1e-09 s" in late.given_up
    assert late.bound <= exact.value * (1 + 1e-9) <= late.value * (1 + 2e-9)
    monkeypatch.setattr(lattice, "MOST_PAIRS", 0)
    assert lattice.solve(case).value == pytest.approx(exact.value)
