"""The constraint programme equals the brute force: slices anywhere, links of pairs, memory, co-location."""

from __future__ import annotations

import random

import numpy as np
import pytest
from slicing_instances import brute_force, chain, dag, load_case, memory_binds

from isthmus.errors import NoPlan
from isthmus.planning.slicing import free
from isthmus.planning.slicing.case import LoadCase
from isthmus.planning.slicing.divided import divisible
from isthmus.planning.slicing.verify import verify


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
    outcomes = [compare(seed) for seed in range(2 * count)]
    possible = [outcome for outcome in outcomes if outcome is not None]
    assert len(possible) >= count
    assert sum(possible) >= len(possible) / 3, sum(possible)


def test_what_the_time_limit_cost_is_said() -> None:
    dice = random.Random(5)
    case = load_case(dice, dag(dice, 60), [3, 2], contiguous=False)
    found = free.solve(case, time_limit_seconds=1.5)
    verify(case, found)
    assert found.exact or "ended after 1.5 s" in found.given_up
