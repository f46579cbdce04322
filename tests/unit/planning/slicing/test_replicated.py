"""Replicated slices equal brute force over ranges and devices, scored by the verifier alone."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Iterator

import numpy as np
import pytest
from slicing_instances import chain, dag, load_case

from isthmus.errors import InvalidCase, NoPlan
from isthmus.planning.slicing.case import Graph, LoadCase, Signal
from isthmus.planning.slicing.replica import divisible_bound
from isthmus.planning.slicing.replicated import solve
from isthmus.planning.slicing.solution import Stage
from isthmus.planning.slicing.verify import loads, objective, verify, violations

KINDS = ([1], [3], [4], [2, 1], [2, 2], [1, 1, 1])


def small_case(seed: int, graph: Graph | None = None) -> LoadCase:
    """Every second case's links differ from pair to pair of types."""
    dice = random.Random(seed)
    counts = dice.choice(KINDS)
    case = load_case(
        dice, graph or chain(dice, dice.randint(1, 5)), counts, overlap=dice.random() < 0.4, replicated=True
    )
    if seed % 2:
        kind_of = [k for k, count in enumerate(counts) for _ in range(count)]
        send, receive = (
            np.array([[dice.uniform(0, 1) for _ in counts] for _ in counts])[np.ix_(kind_of, kind_of)]
            for _ in range(2)
        )
        case = dataclasses.replace(case, send_seconds=send, receive_seconds=receive)
    return case


def every_plan(case: LoadCase) -> Iterator[tuple[Stage, ...]]:
    """Return every partition into ranges on every choice of devices. Busy seconds for even shares tell
    what a whole sample would take, and with it the shares at which all replicas end at once."""
    order, m = case.graph.topological, len(case.devices)
    for count in range(1, min(len(order), m) + 1):
        for cuts in itertools.combinations(range(1, len(order)), count - 1):
            parts = [order[a:b] for a, b in itertools.pairwise((0, *cuts, len(order)))]
            for stage_of in itertools.product(range(-1, count), repeat=m):
                if not set(range(count)) <= set(stage_of):
                    continue
                groups = [tuple(d for d in range(m) if stage_of[d] == k) for k in range(count)]
                even = [Stage(p, g, (1 / len(g),) * len(g)) for p, g in zip(parts, groups, strict=True)]
                if not violations(case, even):
                    yield balanced(case, even)


def balanced(case: LoadCase, stages: list[Stage]) -> tuple[Stage, ...]:
    busy = loads(case, stages)
    found = []
    for stage in stages:
        rates = [1 / max(busy[d], 1e-12) for d in stage.devices]
        found.append(dataclasses.replace(stage, shares=tuple(rate / sum(rates) for rate in rates)))
    return tuple(found)


@pytest.mark.parametrize("seeds", [range(60), pytest.param(range(60, 1000), marks=pytest.mark.slow)])
def test_every_value_equals_brute_force(seeds: range) -> None:
    replicas = solved = binding = 0
    for seed in seeds:
        case = small_case(seed)
        best = min((objective(case, plan) for plan in every_plan(case)), default=None)
        if best is None:
            with pytest.raises(NoPlan, match="no ranges of operators fit"):
                solve(case)
            continue
        solution = solve(case)
        assert verify(case, solution) == pytest.approx(best, rel=1e-9)
        assert solution.exact
        assert divisible_bound(case) <= best * (1 + 1e-9)
        solved += 1
        replicas += any(len(stage.devices) > 1 for stage in solution.stages)
        free = dataclasses.replace(case, capacity_bytes=np.full(len(case.devices), np.inf))
        binding += solve(free).value < best * (1 - 1e-9)
    assert solved > len(seeds) / 3
    assert replicas > solved / 2
    assert binding > solved / 5


def test_no_other_shares_are_better() -> None:
    dice = random.Random(2)
    for seed in range(40):
        case = small_case(seed)
        try:
            solution = solve(case)
        except NoPlan:
            continue
        for _ in range(10):
            other = []
            for stage in solution.stages:
                parts = [share * dice.uniform(0.5, 1.5) for share in stage.shares]
                other.append(dataclasses.replace(stage, shares=tuple(p / sum(parts) for p in parts)))
            assert objective(case, other) >= solution.value * (1 - 1e-9)


def test_shares_follow_compute_and_transfers() -> None:
    graph = Graph(("a", "b"), (Signal(0, (1,), 2.0),))
    case = LoadCase(
        graph=graph,
        devices=("x", "y", "z"),
        seconds=np.array([[4.0, 4.0, np.inf], [np.inf, np.inf, 1.0]]),
        memory_bytes=np.zeros(2),
        capacity_bytes=np.full(3, np.inf),
        send_seconds=np.array([[0, 0, 2.0], [0, 0, 0.0], [0, 0, 0]]),
        receive_seconds=np.zeros((3, 3)),
        replicated=True,
    )
    solution = solve(case)
    # x computes 4 s and sends for 4 s, y computes alone: it takes two of three samples.
    assert solution.stages == (Stage((0,), (0, 1), pytest.approx((1 / 3, 2 / 3))), Stage((1,), (2,)))
    assert solution.value == pytest.approx(8 / 3)


def test_a_network_that_is_no_chain_is_planned_by_ranges_and_says_so() -> None:
    dice = random.Random(6)
    for seed in range(0, 60, 2):
        case = small_case(seed, dag(dice, 5, grouped=True))
        best = min((objective(case, p) for p in every_plan(case)), default=None)
        if best is None or len(case.graph.edges) == 4:
            continue
        solution = solve(case)
        # What a device pays does not depend on the other side here, so that ranges are solved exactly.
        assert verify(case, solution) == pytest.approx(best, rel=1e-9)
        assert solution.bound <= divisible_bound(case)
        assert "only ranges" in solution.given_up


def test_more_devices_than_can_be_counted() -> None:
    dice = random.Random(1)
    case = load_case(dice, chain(dice, 30), [1] * 16, replicated=True)
    free = dataclasses.replace(case, capacity_bytes=np.full(16, np.inf))
    solution = solve(free)
    assert "fastest alone" in solution.given_up
    assert divisible_bound(free) == solution.bound <= verify(free, solution)


def test_a_backward_pass_is_refused() -> None:
    case = small_case(0)
    n = len(case.graph.names)
    backward = dataclasses.replace(case, graph=dataclasses.replace(case.graph, backward=(True,) * n))
    with pytest.raises(InvalidCase, match="backward operators"):
        solve(backward)
