"""Slices of graphs with a backward pass equal the best of all assignments, contiguous and not."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest
from slicing_instances import brute_force, dag, load_case
from training_graphs import irregular, mirrored

from isthmus.errors import NoPlan
from isthmus.planning.slicing import free, lattice
from isthmus.planning.slicing.case import Graph, LoadCase, Signal
from isthmus.planning.slicing.solution import from_assignment
from isthmus.planning.slicing.verify import verify, violations


def instance(seed: int) -> LoadCase:
    dice = random.Random(seed)
    n = dice.randint(2, 4)
    graph = mirrored(dice, dag(dice, n)) if dice.random() < 0.4 else irregular(dice, n)
    return load_case(dice, graph, dice.choice([[2], [1, 1], [2, 1]]), overlap=dice.random() < 0.3)


@pytest.mark.parametrize("start", [0, 75])
def test_contiguous_slices_equal_brute_force(start: int) -> None:
    possible = 0
    for seed in range(start, start + 75):
        case = instance(seed)
        best = brute_force(case)
        if best is None:
            with pytest.raises(NoPlan):
                lattice.solve(case)
            continue
        possible += 1
        found = lattice.solve(case)
        assert verify(case, found) == pytest.approx(best[0], rel=1e-9), seed
        assert found.exact
    assert possible > 20


def test_slices_anywhere_equal_brute_force() -> None:
    for seed in range(25):
        case = dataclasses.replace(instance(seed), contiguous=False)
        best = brute_force(case)
        if best is None:
            continue
        found = free.solve(case, time_limit_seconds=0.5)
        assert verify(case, found) == pytest.approx(best[0], rel=1e-6), seed
        assert found.bound <= best[0] * (1 + 1e-9)


def two_layers(*, gradients: tuple[int, int], groups: tuple[int, ...]) -> Graph:
    """Two layers and their backward operators, 2 and 3; ``gradients``: from which of these to which."""
    signals = (Signal(0, (1,), 1.0), Signal(gradients[0], (gradients[1],), 1.0))
    return Graph(("f0", "f1", "b0", "b1"), signals, groups=groups, backward=(False, False, True, True))


@pytest.mark.parametrize("gradients", [(2, 3), (3, 2)])
def test_gradients_bind_nothing_beyond_the_forward_operators_they_follow(gradients: tuple[int, int]) -> None:
    """The published layer graphs have them in the order of the forward pass."""
    case = load_case(random.Random(4), two_layers(gradients=gradients, groups=(0, 1, 0, 1)), [2])
    case = dataclasses.replace(case, seconds=np.ones((4, 2)), capacity_bytes=np.full(2, np.inf))
    found = lattice.solve(dataclasses.replace(case, send_seconds=np.zeros((2, 2))))
    assert len(found.stages) == 2


def test_backward_operators_without_a_forward_one_count_in_reverse() -> None:
    graph = two_layers(gradients=(2, 3), groups=(0, 1, 2, 0))
    case = load_case(random.Random(4), graph, [2])
    case = dataclasses.replace(case, seconds=np.ones((4, 2)), capacity_bytes=np.full(2, np.inf))
    assert violations(case, from_assignment((0, 1, 1, 0))) == []
    turned = dataclasses.replace(case, graph=two_layers(gradients=(3, 2), groups=(0, 1, 2, 0)))
    assert violations(turned, from_assignment((0, 1, 1, 0))) == [
        "slices 0, 1 wait for each other: they are no pipeline"
    ]
