"""The constraint programme equals the brute force: slices anywhere, links of pairs, memory, co-location."""

from __future__ import annotations

import dataclasses
import itertools
import random

import numpy as np
import pytest
from slicing_instances import brute_force, chain, dag, load_case, memory_binds

from isthmus.errors import NoPlan
from isthmus.planning.slicing import free, free_constraints
from isthmus.planning.slicing.blocks import contract
from isthmus.planning.slicing.case import Graph, LoadCase, Signal
from isthmus.planning.slicing.divided import divisible
from isthmus.planning.slicing.verify import objective, verify


def instance(seed: int) -> LoadCase:
    dice = random.Random(seed)
    kinds = dice.choice([[1, 1], [2], [2, 1], [3]])
    n = dice.randint(3, 5)
    graph = chain(dice, n) if dice.random() < 0.3 else dag(dice, n, grouped=dice.random() < 0.3)
    case = load_case(dice, graph, kinds, contiguous=dice.random() < 0.1, overlap=dice.random() < 0.2)
    changed = {"capacity_bytes": case.capacity_bytes * dice.uniform(1, 1.05)}
    if dice.random() < 0.25:
        m = sum(kinds)
        pairs = np.array([[dice.uniform(0, 1) for _ in range(m)] for _ in range(m)])
        changed |= {"send_seconds": pairs, "receive_seconds": pairs.T.copy()}
    return LoadCase(**{**vars(case), **changed})


def compare(seed: int) -> bool | None:
    """Hold one instance against the brute force; return whether memory binds, None where none is possible."""
    case = instance(seed)
    best = brute_force(case)
    if best is None:
        with pytest.raises(NoPlan):
            free.solve(case, time_limit_seconds=10, workers=1)
        return None
    found = free.solve(case, time_limit_seconds=10, workers=1)
    assert verify(case, found) == pytest.approx(best[0], rel=1e-6), seed
    assert found.exact, seed
    assert found.bound <= best[0] * (1 + 1e-9), seed
    assert divisible(case) <= best[0] * (1 + 1e-9), seed
    return memory_binds(case, best[0])


@pytest.mark.parametrize("count", [25, pytest.param(1000, marks=pytest.mark.slow)])
def test_equal_to_brute_force(count: int) -> None:
    outcomes = (compare(seed) for seed in range(2 * count))
    possible = list(itertools.islice((outcome for outcome in outcomes if outcome is not None), count))
    assert len(possible) == count
    assert sum(possible) >= len(possible) / 3, sum(possible)


def packed(memory: list[float], room: list[float], *, contiguous: bool) -> LoadCase:
    """Return operators of a second each, between which nothing is sent; links differ, so that a programme is built."""
    n, m = len(memory), len(room)
    pairs = np.array([[float(d == 0 and e == 1) for e in range(m)] for d in range(m)])
    return LoadCase(
        Graph(tuple(f"op{v}" for v in range(n)), ()),
        tuple(f"d{k}" for k in range(m)),
        np.ones((n, m)),
        np.array(memory),
        np.array(room),
        send_seconds=pairs if contiguous else np.zeros((m, m)),
        receive_seconds=pairs.T.copy() if contiguous else np.zeros((m, m)),
        contiguous=contiguous,
    )


@pytest.mark.parametrize("contiguous", [True, False])
@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e13])
def test_memory_counts_in_whatever_unit_it_is(scale: float, contiguous: bool) -> None:
    """Parts of a byte, and more than the programme counts byte by byte."""
    case = packed([0.75 * scale, 0.5 * scale, 0.25 * scale], [0.75 * scale] * 2, contiguous=contiguous)
    found = free.solve(case, time_limit_seconds=5, workers=1)
    assert verify(case, found) == pytest.approx(2.0)
    none = dataclasses.replace(case, capacity_bytes=case.capacity_bytes * 0.9)
    with pytest.raises(NoPlan, match="no slicing fits"):
        free.solve(none, time_limit_seconds=5, workers=1)


def test_a_plan_that_fits_only_as_it_was_rounded_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(free_constraints, "MEMORY_STEPS", 1)
    for contiguous in (True, False):
        case = packed([1.0, 0.5, 0.5], [1.2, 0.7], contiguous=contiguous)
        assert brute_force(case) is None
        with pytest.raises(NoPlan, match="no slicing was found"):
            free.solve(case, time_limit_seconds=5, workers=1)


def test_what_a_device_sends_to_itself_is_no_cost() -> None:
    case = packed([0.0, 0.0], [1.0, 1.0], contiguous=True)
    graph = dataclasses.replace(case.graph, signals=(Signal(0, (1,), 1.0),))
    links = case.send_seconds + np.diag([np.inf, 0.0])
    case = dataclasses.replace(case, graph=graph, send_seconds=links, contiguous=False)
    barred = dataclasses.replace(case, seconds=np.array([[1.0, np.inf], [np.inf, 1.0]]))
    for each in (case, barred):
        best = brute_force(each)
        assert best is not None
        blocks = contract(each, contiguous=False)
        found = free_constraints.Constraints(each, blocks, None, 0.0).solve(5.0, 1)
        assert found.stages is not None
        assert objective(each, found.stages) == pytest.approx(best[0])


def test_what_the_time_limit_cost_is_said() -> None:
    dice = random.Random(5)
    case = load_case(dice, dag(dice, 60), [3, 2], contiguous=False)
    found = free.solve(case, time_limit_seconds=1.5)
    verify(case, found)
    assert found.exact or "ended after 1.5 s" in found.given_up
