"""What cannot be met is named with its figures, and what is said to help does help."""

from __future__ import annotations

import dataclasses
import random
import re

import numpy as np
import pytest
from sum_instances import best, every_assignment, line, tiers

from isthmus.errors import NoPlan
from isthmus.planning.slicing import choose, cut, relax, relax_load, relax_sums, sums
from isthmus.planning.slicing.case import Graph, Limit, LoadCase, Signal, SumCase

FREE = np.inf
GIB = 1024.0**3
ONE_EACH = np.array([[1, FREE], [FREE, 1], [FREE, 1]])


def two(**changes: object) -> SumCase:
    """Three operators of 1.6 GiB on an edge device and a server."""
    case = SumCase(
        graph=line([1.0, 1.0]),
        devices=("edge-1", "server"),
        cost=np.ones((3, 2)),
        memory_bytes=np.full(3, 1.6 * GIB),
        capacity_bytes=np.array([FREE, FREE]),
        link_fixed=np.array([[0.0, 1.0], [1.0, 0.0]]),
        link_per_size=np.zeros((2, 2)),
    )
    return dataclasses.replace(case, **changes)  # type: ignore[arg-type]


def test_what_is_possible_needs_no_explanation() -> None:
    assert relax.explain(two()) == ""


def test_memory_says_how_much_more_of_it_would_do() -> None:
    cost = np.array([[1, FREE], [1, FREE], [1, 1]])
    case = two(cost=cost, capacity_bytes=np.array([2.0 * GIB, 4 * GIB]))
    assert relax.explain(case) == (
        "needs 3.2 GiB (3,435,973,837 bytes) for 2 operators on edge-1, which has 2.0 GiB (2,147,483,648 bytes); "
        "1.2 GiB (1,288,490,189 bytes) more on edge-1 would make a plan possible"
    )
    with pytest.raises(NoPlan, match=r"1\.2 GiB .* more on edge-1"):
        sums.best(case, time_limit_seconds=9)
    for more, said in ((1_288_490_189, ""), (1_288_490_180, "edge-1")):
        assert said in relax.explain(two(cost=cost, capacity_bytes=np.array([2.0 * GIB + more, 4 * GIB])))


def test_an_operator_that_may_run_nowhere_is_named_with_each_device() -> None:
    case = two(cost=np.array([[1, 1], [FREE, FREE], [1, 1]]))
    assert relax.explain(case).startswith("op1 may not or cannot run on any of edge-1, server;")
    with pytest.raises(NoPlan, match="op1 may not"):
        cut.minimum_cut(case)


def test_colocated_operators_without_a_common_device_are_named() -> None:
    graph = dataclasses.replace(line([1.0, 1.0]), groups=(0, 1, 0))
    said = relax.explain(two(graph=graph, cost=np.array([[1, FREE], [1, 1], [FREE, 1]])))
    assert "op0 on edge-1 only, op2 on server only" in said


def test_tiers_that_data_would_have_to_leave_backwards_are_named() -> None:
    said = relax.explain(two(monotone=True, cost=np.array([[FREE, 1], [1, 1], [1, FREE]])))
    assert said.startswith(
        "op2 reads what comes from server at the earliest, and can run on edge-1 at the latest"
    )


def test_a_missing_link_is_named_with_what_it_would_carry() -> None:
    case = two(cost=np.array([[1, FREE], [1, 1], [FREE, 1]]), link_fixed=np.array([[0, FREE], [1, 0]]))
    said = relax.explain(case)
    assert re.match(r"no link carries op\d on edge-1 to op\d on server; a link from edge-1 to server", said)


def test_a_limit_says_by_how_much() -> None:
    price = Limit("price", "USD", 2.0, np.array([[1.0, 3.0]] * 3), np.zeros((2, 2)), np.zeros((2, 2)))
    assert relax.explain(two(limits=(price,))) == (
        "price would have to be 3 USD or more, where at most 2 USD is allowed; 1 USD more would make a plan possible"
    )


def test_limits_without_a_link_are_told_from_missing_links() -> None:
    """Memory alone could be met, were there a link."""
    case = two(capacity_bytes=np.array([2 * GIB, 4 * GIB]), link_fixed=np.array([[0, FREE], [FREE, 0]]))
    assert relax.explain(case) == (
        "needs 4.8 GiB (5,153,960,756 bytes) for 3 operators on server, which has 4.0 GiB (4,294,967,296 bytes); "
        "819.2 MiB (858,993,460 bytes) more on server would make a plan possible"
    )


def loaded(**changes: object) -> LoadCase:
    case = LoadCase(
        graph=line([1.0, 1.0]),
        devices=("x", "y"),
        seconds=np.array([[1, FREE], [FREE, 1], [1, FREE]]),
        memory_bytes=np.full(3, GIB),
        capacity_bytes=np.full(2, FREE),
        send_seconds=np.ones((2, 2)),
        receive_seconds=np.ones((2, 2)),
    )
    return dataclasses.replace(case, **changes)  # type: ignore[arg-type]


def test_two_things_that_are_short_are_named_together() -> None:
    cost = np.array([[1, FREE], [FREE, 1], [FREE, 1]])
    said = relax.explain(two(cost=cost, capacity_bytes=np.array([GIB, 2 * GIB])))
    assert " on edge-1, which has 1.0 GiB (1,073,741,824 bytes) and needs " in said
    assert re.search(r"more on edge-1 and .* more on server would make a plan possible$", said)


def test_slices_that_cannot_be_contiguous() -> None:
    assert relax.explain(loaded()) == (
        "every operator has its place within memory, but not in contiguous slices; slices that need not be contiguous, "
        "or running op1 on x would make a plan possible"
    )
    assert relax.explain(loaded(contiguous=False)) == ""
    short = relax.explain(loaded(capacity_bytes=np.array([GIB, GIB])))
    assert short == (
        "every operator has its place within memory, but not in contiguous slices; "
        "then needs 2.0 GiB (2,147,483,648 bytes) on x, which has 1.0 GiB (1,073,741,824 bytes); "
        "slices that need not be contiguous and 1.0 GiB (1,073,741,824 bytes) more on x would make a plan possible; "
        "less may do"
    )


@pytest.mark.parametrize("contiguous", [True, False])
def test_devices_without_any_memory_need_bytes_and_no_factor(contiguous: bool) -> None:
    said = relax.explain(loaded(capacity_bytes=np.zeros(2), contiguous=contiguous, seconds=ONE_EACH))
    assert said == (
        "devices are short of memory together: as much as 1.0 GiB (1,073,741,824 bytes) on x, "
        "2.0 GiB (2,147,483,648 bytes) on y is needed; 1.0 GiB (1,073,741,824 bytes) more on x and "
        "2.0 GiB (2,147,483,648 bytes) more on y would make a plan possible; less may do"
    )


@pytest.mark.parametrize("contiguous", [True, False])
def test_memory_without_a_limit_is_not_multiplied(contiguous: bool) -> None:
    """The first device has none, the second any amount, and of the third nothing is used."""
    case = loaded(
        devices=("x", "y", "z"),
        seconds=np.where(np.eye(3) > 0, 1.0, FREE),
        memory_bytes=np.array([GIB, GIB, 0.0]),
        capacity_bytes=np.array([0.0, FREE, GIB]),
        send_seconds=np.ones((3, 3)),
        receive_seconds=np.ones((3, 3)),
        contiguous=contiguous,
    )
    assert relax.explain(case) == (
        "needs 1.0 GiB (1,073,741,824 bytes) on x, which has 0 B; 1.0 GiB (1,073,741,824 bytes) more on x "
        "would make a plan possible"
    )


def test_questions_about_a_pipeline_end_with_the_time() -> None:
    """Late, each has the least time: the table is not filled, and nothing is proven."""
    case = loaded(seconds=ONE_EACH, capacity_bytes=np.zeros(2))
    late = relax.family_of(case, 0.0)
    assert isinstance(late, relax_load.Pipelines)
    assert late._seconds() == late.with_room(np.ones(2))._seconds() == relax_load.LEAST_SECONDS
    assert late.with_allowed([(0, 1)])._seconds() == relax_load.LEAST_SECONDS


def test_links_that_a_pipeline_cannot_do_without_are_named() -> None:
    shut = np.array([[0, FREE], [1, 0]])
    with pytest.raises(NoPlan, match="x cannot send to y; a link between the two"):
        choose.solve(loaded(send_seconds=shut), time_limit_seconds=1)


def test_the_relaxation_is_the_smallest_and_makes_a_plan_possible() -> None:
    dice = random.Random(31)
    tried = 0
    while tried < 60:
        case = tiers(dice, tight=True, monotone=dice.random() < 0.5)
        case.capacity_bytes[:] *= 0.7
        if (
            best(case) < np.inf
            or best(dataclasses.replace(case, capacity_bytes=case.capacity_bytes * 9)) == np.inf
        ):
            continue
        tried += 1
        device_of, finished = relax_sums.least_overrun(relax_sums.only_feasibility(case), 9)
        assert finished
        assert device_of is not None
        on = device_of[case.graph.arrays.block_of]
        assert overrun(case, on[None, :])[0] == pytest.approx(overrun(case, allowed(case)).min(), abs=1e-7)
        more = np.maximum(
            case.capacity_bytes, [case.memory_bytes[on == d].sum() for d in range(len(case.devices))]
        )
        assert best(dataclasses.replace(case, capacity_bytes=more)) < np.inf
        assert "would make a plan possible" in relax.explain(case)


def allowed(case: SumCase) -> np.ndarray:
    """Return the plans that keep everything but memory."""
    plans = every_assignment(case.graph, len(case.devices))
    kept = np.isfinite(case.cost[np.arange(len(case.cost)), plans].sum(axis=1))
    for u, v in case.graph.edges if case.monotone else ():
        kept &= plans[:, u] <= plans[:, v]
    return plans[kept]


def overrun(case: SumCase, plans: np.ndarray) -> np.ndarray:
    """Return what each plan passes memory by, summed, each as a part of it."""
    parts = [
        np.maximum(0, ((plans == d) * case.memory_bytes).sum(axis=1) / room - 1)
        for d, room in enumerate(case.capacity_bytes)
    ]
    return np.sum(parts, axis=0)


def test_a_wide_signal_is_no_obstacle() -> None:
    graph = Graph(("a", "b", "c"), (Signal(0, (1, 2), 1.0),))
    assert relax.explain(two(graph=graph)) == ""
