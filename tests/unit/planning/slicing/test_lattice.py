"""The dynamic programme equals the brute force; what is contracted loses nothing."""

from __future__ import annotations

import dataclasses
import itertools
import random

import numpy as np
import pytest
from slicing_instances import brute_force, chain, dag, load_case, memory_binds

from isthmus.errors import NoPlan
from isthmus.planning.slicing import lattice
from isthmus.planning.slicing.blocks import contract
from isthmus.planning.slicing.case import Graph, LoadCase, Signal
from isthmus.planning.slicing.divided import divisible
from isthmus.planning.slicing.verify import verify


def instance(seed: int) -> LoadCase:
    dice = random.Random(seed)
    kinds = dice.choice([[1, 1], [2], [2, 1], [1, 1, 1]])
    n = dice.randint(3, 6 if sum(kinds) < 3 else 5)
    graph = chain(dice, n) if dice.random() < 0.4 else dag(dice, n, grouped=dice.random() < 0.3)
    return load_case(dice, graph, kinds, overlap=dice.random() < 0.3)


@pytest.mark.parametrize("cases", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_equal_to_brute_force(cases: int) -> None:
    compared = binding = 0
    for seed in itertools.count():
        case = instance(seed)
        best = brute_force(case)
        if best is None:
            with pytest.raises(NoPlan):
                lattice.solve(case)
            continue
        found = lattice.solve(case)
        assert verify(case, found) == pytest.approx(best[0], rel=1e-9), seed
        assert found.exact
        assert found.bound == found.value
        compared += 1
        binding += memory_binds(case, best[0])
        if compared == cases:
            break
    assert binding >= cases / 3, binding
    assert seed < 2 * cases, "too many of the instances are impossible"


def test_backward_operators_ride_with_their_forward_ones() -> None:
    dice = random.Random(7)
    for _ in range(60):
        n = dice.randint(2, 3)
        forward = [Signal(v, (v + 1,), dice.uniform(0, 2)) for v in range(n - 1)]
        back = [Signal(n + k, (n + k + 1,), dice.uniform(0, 2)) for k in range(n - 1)]
        turn = [Signal(n - 1, (n,), 0.5)]
        names = tuple(f"f{v}" for v in range(n)) + tuple(f"b{v}" for v in reversed(range(n)))
        graph = Graph(
            names,
            (*forward, *turn, *back),
            groups=(*range(n), *reversed(range(n))),
            backward=(False,) * n + (True,) * n,
        )
        case = load_case(dice, graph, [2, 1])
        best = brute_force(case)
        if best is None:
            with pytest.raises(NoPlan):
                lattice.solve(case)
        else:
            assert verify(case, lattice.solve(case)) == pytest.approx(best[0], rel=1e-9)


def test_a_network_of_many_ideals_is_searched_along_linear_orders_and_says_so() -> None:
    dice = random.Random(3)
    case = load_case(dice, dag(dice, 14), [2, 1])
    case = dataclasses.replace(case, capacity_bytes=np.full(3, np.inf))
    exact, rough = lattice.solve(case), lattice.solve(case, most_ideals=20)
    assert exact.exact
    assert not exact.given_up
    assert "linear orders" in rough.given_up
    assert not rough.exact
    assert rough.bound <= exact.value <= rough.value
    assert divisible(case) <= exact.value


def test_what_costs_nothing_joins_its_neighbour() -> None:
    graph = Graph(("in", "a", "b"), (Signal(0, (1,), 3.0), Signal(1, (2,), 1.0)))
    case = LoadCase(
        graph=graph,
        devices=("x", "y"),
        seconds=np.array([[0, 0], [1, 1], [1, 1.0]]),
        memory_bytes=np.array([0, 1, 1.0]),
        capacity_bytes=np.array([1.0, 1.0]),
        send_seconds=np.ones((2, 2)),
        receive_seconds=np.ones((2, 2)),
    )
    assert contract(case, contiguous=True).members == ((0, 1), (2,))
    assert lattice.solve(case).value == 2.0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"contiguous": False}, "need not be contiguous"),
        ({"replicated": True}, "replicated"),
        ({"send_seconds": np.array([[0, 1, 2], [1, 0, 1], [1, 1, 0.0]])}, "depends on the other side"),
    ],
)
def test_where_it_is_not_exact_it_says_why(change: dict[str, object], reason: str) -> None:
    dice = random.Random(1)
    case = dataclasses.replace(load_case(dice, chain(dice, 3), [1, 1, 1]), **change)  # type: ignore[arg-type]
    assert reason in lattice.applies(case)
