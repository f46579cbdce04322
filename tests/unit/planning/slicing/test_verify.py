"""The verifier finds each kind of fault; the brute force stands on it."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest
from slicing_instances import brute_force, chain, dag, load_case, sum_case

from isthmus.errors import InvalidCase, PlanUnsound
from isthmus.planning.slicing.case import Graph, LoadCase, Signal, SumCase
from isthmus.planning.slicing.solution import Solution, Stage, from_assignment
from isthmus.planning.slicing.verify import loads, objective, verify, violations

LINE = Graph(("a", "b", "c"), (Signal(0, (1,), 2.0), Signal(1, (2,), 3.0)))


def two_devices(graph: Graph = LINE, **changes: object) -> LoadCase:
    n = len(graph.names)
    case = LoadCase(
        graph=graph,
        devices=("x", "y"),
        seconds=np.ones((n, 2)) * [[1.0, 2.0]],
        memory_bytes=np.full(n, 10.0),
        capacity_bytes=np.array([25.0, np.inf]),
        send_seconds=np.array([[0, 0.5], [0.25, 0]]),
        receive_seconds=np.array([[0, 0.125], [0.5, 0]]),
    )
    return dataclasses.replace(case, **changes)  # type: ignore[arg-type]


def test_loads_are_counted_by_hand() -> None:
    stages = from_assignment((0, 0, 1))
    assert loads(two_devices(), stages) == {0: 2 * 1.0 + 3 * 0.5, 1: 2.0 + 3 * 0.125}
    assert loads(two_devices(overlap=True), stages) == {0: 2.0, 1: 2.0}


def test_a_signal_is_sent_once_and_received_by_each() -> None:
    graph = Graph(("a", "b", "c"), (Signal(0, (1, 2), 2.0),))
    case = two_devices(graph)
    assert loads(case, from_assignment((0, 1, 1))) == {0: 1.0 + 2 * 0.5, 1: 4.0 + 2 * 0.125}


def test_replicas_share_the_work() -> None:
    stages = (Stage((0, 1, 2), (0, 1), (0.75, 0.25)),)
    case = two_devices(replicated=True, capacity_bytes=np.full(2, np.inf))
    assert loads(case, stages) == {0: 0.75 * 3, 1: 0.25 * 6}
    assert violations(case, stages) == []


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ((Stage((0, 1), (0,)),), "placed once each"),
        ((Stage((0, 1, 2), (0,)),), "x needs 30 bytes"),
        ((Stage((0, 2), (0,)), Stage((1,), (1,))), "wait for each other"),
        ((Stage((0,), (1,)), Stage((1,), (0,)), Stage((2,), (1,))), "a device is in two slices"),
        ((Stage((0, 1, 2), (0, 1), (0.5, 0.5)),), "on several devices"),
        ((Stage((0, 1, 2), (0, 1), (0.5, 0.2)),), "do not sum to 1"),
        ((Stage((0, 1, 2), (7,)),), "not all there"),
    ],
)
def test_each_fault_is_found(stages: tuple[Stage, ...], said: str) -> None:
    assert any(said in entry for entry in violations(two_devices(), stages))


def test_colocation_and_refusal() -> None:
    case = two_devices(dataclasses.replace(LINE, groups=(0, 1, 0)))
    assert any(
        "a, c must be on one device" in entry for entry in violations(case, from_assignment((0, 0, 1)))
    )
    refused = two_devices(seconds=np.array([[1, np.inf], [1, 1], [1, 1.0]]))
    assert violations(refused, from_assignment((1, 1, 1))) == ["a may not or cannot run on y"]


def test_a_backward_pass_runs_through_the_slices_in_reverse() -> None:
    graph = Graph(
        ("f0", "f1", "b1", "b0"),
        (Signal(0, (1, 3), 1.0), Signal(1, (2,), 1.0), Signal(2, (3,), 1.0)),
        groups=(0, 1, 1, 0),
        backward=(False, False, True, True),
    )
    case = two_devices(graph, capacity_bytes=np.full(2, np.inf))
    assert violations(case, from_assignment((0, 1, 1, 0))) == []


def test_a_wrong_value_or_bound_is_refused() -> None:
    stages = from_assignment((0, 0, 1))
    value = objective(two_devices(), stages)
    right = Solution(stages, value, value, "hand", True)
    assert verify(two_devices(), right) == value
    for wrong in ({"value": value * 0.99}, {"bound": value * 1.01}):
        with pytest.raises(PlanUnsound, match="hand claims"):
            verify(two_devices(), dataclasses.replace(right, **wrong))


def test_a_small_value_is_held_to_as_many_digits() -> None:
    stages, small = from_assignment((0, 0, 1)), 1e-9
    whole = two_devices()
    links = {"send_seconds": whole.send_seconds * small, "receive_seconds": whole.receive_seconds * small}
    case = dataclasses.replace(whole, seconds=whole.seconds * small, **links)
    value = objective(case, stages)
    right = Solution(stages, value, value, "hand", True)
    assert verify(case, right) == value
    for wrong in ({"value": value * 0.99}, {"bound": value * 1.01}):
        with pytest.raises(PlanUnsound, match="hand claims"):
            verify(case, dataclasses.replace(right, **wrong))


def test_sums_tiers_and_limits() -> None:
    case = SumCase(
        graph=LINE,
        devices=("x", "y"),
        cost=np.ones((3, 2)) * [[3.0, 1.0]],
        memory_bytes=np.zeros(3),
        capacity_bytes=np.full(2, np.inf),
        link_fixed=np.array([[0, 0.5], [np.inf, 0]]),
        link_per_size=np.array([[0, 0.25], [0, 0]]),
        monotone=True,
    )
    assert objective(case, from_assignment((0, 1, 1))) == 3 + 0.5 + 0.5 + 2
    said = violations(case, from_assignment((1, 0, 0)))
    assert any("earlier tier" in entry for entry in said)
    assert any("cannot send" in entry for entry in said)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Graph((), ()), "no operators"),
        (lambda: Graph(("a", "b"), (Signal(0, (1,), 1.0), Signal(1, (0,), 1.0))), r"cycle: .*a.*b"),
        (lambda: Graph(("a",), (Signal(0, (4,), 1.0),)), "not there"),
        (lambda: Graph(("a", "b"), (Signal(0, (1,), -1.0),)), "at least 0"),
        (lambda: Graph(("a", "b"), (Signal(0, (1,), float("nan")),)), "finite"),
        (lambda: two_devices(seconds=np.full((3, 2), -1.0)), "at least 0; a has"),
        (lambda: two_devices(seconds=np.ones((3, 1))), "shape"),
        (lambda: two_devices(devices=()), "at least one device"),
        (lambda: two_devices(send_seconds=np.full((2, 2), np.nan)), "links"),
    ],
)
def test_what_cannot_be_planned_is_refused(make: object, said: str) -> None:
    with pytest.raises(InvalidCase, match=said):
        make()  # type: ignore[operator]


def test_brute_force_finds_a_plan_of_most_random_cases() -> None:
    dice = random.Random(1)
    found = [brute_force(load_case(dice, chain(dice, 5), [2, 1])) for _ in range(10)]
    found += [
        brute_force(sum_case(dice, dag(dice, 5, grouped=True), 3, monotone=True, tight=False))
        for _ in range(10)
    ]
    assert sum(entry is not None for entry in found) >= 15
