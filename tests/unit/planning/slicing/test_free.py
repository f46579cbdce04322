"""The constraint programme equals the brute force: slices anywhere, links of pairs, memory, co-location."""

from __future__ import annotations

import random

import numpy as np
import pytest
from slicing_instances import brute_force, chain, dag, load_case

from isthmus.errors import NoPlan
from isthmus.planning.slicing import free, lattice
from isthmus.planning.slicing.case import LoadCase
from isthmus.planning.slicing.verify import verify


def instance(seed: int) -> LoadCase:
    dice = random.Random(seed)
    kinds = dice.choice([[1, 1], [2], [2, 1]])
    n = dice.randint(3, 5)
    graph = chain(dice, n) if dice.random() < 0.3 else dag(dice, n, grouped=dice.random() < 0.3)
    case = load_case(dice, graph, kinds, contiguous=dice.random() < 0.3, overlap=dice.random() < 0.2)
    if dice.random() < 0.4:
        m = sum(kinds)
        pairs = np.array([[dice.uniform(0, 1) for _ in range(m)] for _ in range(m)])
        case = LoadCase(**{**vars(case), "send_seconds": pairs, "receive_seconds": pairs.T.copy()})
    return case


@pytest.mark.parametrize("start", [0, 20])
def test_equal_to_brute_force(start: int) -> None:
    for seed in range(start, start + 20):
        case = instance(seed)
        best = brute_force(case)
        if best is None:
            with pytest.raises(NoPlan):
                free.solve(case, time_limit_seconds=0.5)
            continue
        found = free.solve(case, time_limit_seconds=0.5)
        assert verify(case, found) == pytest.approx(best[0], rel=1e-6), seed
        assert lattice.divisible(case) <= best[0] * (1 + 1e-9)
        assert found.bound <= best[0] * (1 + 1e-9)


def test_what_the_time_limit_cost_is_said() -> None:
    dice = random.Random(5)
    case = load_case(dice, dag(dice, 60), [3, 2], contiguous=False)
    found = free.solve(case, time_limit_seconds=1.5)
    verify(case, found)
    assert found.exact or "ended after 1.5 s" in found.given_up
