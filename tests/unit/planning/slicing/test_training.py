"""The planner of training steps equals brute force, its bounds hold, and its limits are told."""

from __future__ import annotations

import dataclasses
import itertools
import random

import numpy as np
import pytest
from slicing_instances import chain, dag
from step_instances import brute_force, every_plan, memory_binds, small_case, step_case

from isthmus.errors import InvalidCase, NoPlan, PlanUnsound
from isthmus.planning.slicing.case import Graph, Signal
from isthmus.planning.slicing.replica import shares
from isthmus.planning.slicing.solution import Solution, Stage
from isthmus.planning.slicing.step_bound import Used, floor, stage_bound
from isthmus.planning.slicing.step_case import cut_positions, is_chain, prefix_cut_sizes
from isthmus.planning.slicing.step_pairs import pairs
from isthmus.planning.slicing.step_search import Search
from isthmus.planning.slicing.step_terrain import terrain
from isthmus.planning.slicing.training import StepCase, plain_bound, simulate_step, solve_step
from isthmus.planning.slicing.verify_step import (
    step_busy,
    step_bytes,
    step_seconds,
    step_violations,
    verify_step,
)

LINE = Graph(("a", "b", "c"), (Signal(0, (1,), 2.0), Signal(1, (2,), 3.0)))


def line(**changes: object) -> StepCase:
    case = StepCase(
        graph=LINE,
        devices=("x", "y"),
        forward_seconds=np.array([[1.0, 2.0]] * 3),
        backward_seconds=np.array([[2.0, 3.0]] * 3),
        parameter_bytes=np.array([10.0, 20.0, 30.0]),
        activation_bytes=np.array([5.0, 5.0, 5.0]),
        crossing_bytes=prefix_cut_sizes(LINE),
        seconds_per_byte=np.full((2, 2), 0.5),
        latency_seconds=np.zeros((2, 2)),
        capacity_bytes=np.full(2, np.inf),
        microbatches=3,
    )
    return dataclasses.replace(case, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("replicated", "seeds"),
    [
        (False, range(30)),
        pytest.param(False, range(30, 1000), marks=pytest.mark.slow),
        (True, range(30)),
        pytest.param(True, range(200), marks=pytest.mark.slow),
    ],
)
def test_every_value_equals_brute_force(replicated: bool, seeds: range) -> None:
    solved = bound = 0
    for seed in seeds:
        case = small_case(seed, replicated=replicated)
        best = brute_force(case)
        if best is None:
            with pytest.raises(NoPlan, match="no slices can be trained"):
                solve_step(case, time_limit_seconds=60)
            continue
        solution = solve_step(case, time_limit_seconds=60)
        assert verify_step(case, solution) == pytest.approx(best, rel=1e-9)
        assert solution.exact
        assert solution.bound <= best * (1 + 1e-9)
        solved += 1
        bound += memory_binds(case, best)
    assert solved > 0.5 * len(seeds)
    assert bound > solved / 3


def test_bounds_hold_for_each_stage_of_each_plan() -> None:
    compared = 0
    for seed in range(60):
        case = small_case(seed, replicated=seed % 4 == 0)
        land = terrain(case)
        root = floor(land).root
        plans = [plan for plan in every_plan(case) if not step_violations(case, plan)]
        for plan in random.Random(seed).sample(plans, k=min(5, len(plans))):
            value = step_seconds(case, plan) * (1 + 1e-9)
            assert root <= value
            assert plain_bound(case) <= value
            end = 0
            for k, stage in enumerate(plan):
                start, end = end, end + len(stage.operators)
                numbers = tuple(sum(d in members for d in stage.devices) for members in land.kinds)
                own = stage_bound(land, land.units.index(numbers), len(plan) - 1 - k)
                assert own[land.positions.index(start), land.positions.index(end)] <= value
                compared += 1
    assert compared > 300


def test_what_two_neighbours_cost_each_other_bounds_each_plan() -> None:
    compared = sharper = 0
    for seed in range(150):
        case = small_case(seed)
        land = terrain(case)
        table, used = pairs(land, float("inf")), Used(land.counts)
        sharper += table.root > floor(land).root * (1 + 1e-9)
        plans = [plan for plan in every_plan(case) if not step_violations(case, plan)]
        for plan in random.Random(seed).sample(plans, k=min(5, len(plans))):
            value = step_seconds(case, plan) * (1 + 1e-9)
            assert table.root <= value
            end, count = len(case.graph.names), 0
            for stages, stage in enumerate(reversed(plan), start=1):
                numbers = tuple(sum(d in members for d in stage.devices) for members in land.kinds)
                start, count = end - len(stage.operators), count + used.number(numbers)
                assert table.table[stages][count, land.units.index(numbers)][start, end] <= value
                end, compared = start, compared + 1
    assert compared > 400
    assert sharper


def test_the_whole_search_with_dominance_and_every_bound_equals_brute_force() -> None:
    compared = 0
    for seed in range(300, 400):
        case = small_case(seed, replicated=seed % 5 == 0)
        best, land = brute_force(case), terrain(case)
        if best is None:
            continue
        table = floor(land)
        for width, most in ((None, 10_000), (1, 2)):
            search = Search(table, float("inf"))
            search.pairs = None if case.replicated else pairs(land, float("inf"))
            passed = search.sweep(width, most)
            assert min(passed, search.value) <= best * (1 + 1e-9) <= search.value * (1 + 2e-9)
            assert width or (passed == float("inf") and search.value == pytest.approx(best, rel=1e-9))
        compared += 1
    assert compared > 50


def test_out_of_time_the_plan_and_its_bound_still_hold() -> None:
    gaps = []
    for seed in range(40):
        case = small_case(seed)
        best = brute_force(case)
        if best is not None:
            try:
                solution = solve_step(case, time_limit_seconds=1e-9)
            except NoPlan as refusal:
                assert "none in time" in str(refusal)  # noqa: PT017 - a plan may need the search
                continue
            assert solution.bound * (1 - 1e-9) <= best <= verify_step(case, solution) * (1 + 1e-9)
            assert solution.exact or "stopped" in solution.given_up
            gaps.append(solution.gap)
    assert len(gaps) > 20
    assert sorted(gaps)[len(gaps) // 2] < 0.3


def test_memory_counts_weights_gradients_optimizer_and_micro_batches_in_flight() -> None:
    stages = (Stage((0, 1), (0,)), Stage((2,), (1,)))
    # Stage 0 holds 30 bytes of weights four times and two micro-batches of 10 bytes.
    assert step_violations(line(capacity_bytes=np.array([140.0, 125.0])), stages) == []
    said = step_violations(line(capacity_bytes=np.array([139.0, 124.0])), stages)
    assert [entry.split(" to train")[0] for entry in said] == ["x needs 140 bytes", "y needs 125 bytes"]
    assert (
        step_violations(
            line(capacity_bytes=np.array([80.0, 65.0]), optimizer_bytes_per_weight_byte=0.0), stages
        )
        == []
    )


def test_a_step_by_hand() -> None:
    stages = (Stage((0, 1), (0,)), Stage((2,), (1,)))
    # x holds two micro-batches, so that the third enters after the first has come back, at 2 + 1.5 + 5 + 1.5,
    # and has left x, 4 later; then it goes all the way: 2 + 1.5 + 5 + 1.5 + 4.
    assert simulate_step(line(), stages).seconds == 10 + 4 + 14
    assert step_seconds(line(), stages) == 28.0


def test_replicas_split_each_micro_batch_and_sum_gradients_in_a_ring() -> None:
    case = line(replicated=True)
    share = shares([1 / 9, 1 / 15])
    assert share == pytest.approx((0.625, 0.375))
    stages = (Stage((0, 1, 2), (0, 1), share),)
    ring = 2 * (60 / 2 * 0.5)
    assert step_seconds(case, stages) == pytest.approx(3 * (0.375 * 6 + 0.625 * 6) + ring)
    assert simulate_step(case, stages).seconds == pytest.approx(step_seconds(case, stages))


@pytest.mark.parametrize("rates", [(), (1.0, 0.0), (float("inf"),), (-1.0, 2.0)])
def test_shares_need_rates(rates: tuple[float, ...]) -> None:
    with pytest.raises(InvalidCase, match="finite rates above 0"):
        shares(rates)


def test_what_crosses_a_cut_of_a_graph_is_counted_once() -> None:
    graph = Graph(("a", "b", "c", "d"), (Signal(0, (1, 3), 4.0), Signal(1, (2,), 1.0), Signal(2, (3,), 2.0)))
    assert prefix_cut_sizes(graph).tolist() == [0.0, 4.0, 5.0, 6.0, 0.0]
    assert not is_chain(graph)
    assert is_chain(LINE)
    assert cut_positions(dataclasses.replace(graph, groups=(0, 1, 2, 1))) == (0, 1, 4)


def test_a_network_that_is_no_chain_is_planned_by_ranges_and_says_so() -> None:
    dice = random.Random(5)
    for _ in range(10):
        case = step_case(dice, dag(dice, 6, grouped=True), [2, 1])
        best = brute_force(case)
        if best is None or is_chain(case.graph):
            continue
        solution = solve_step(case, time_limit_seconds=60)
        assert verify_step(case, solution) == pytest.approx(best, rel=1e-9)
        assert not solution.exact
        assert "only ranges of one topological order" in solution.given_up


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ((Stage((0, 1), (0,)),), "placed once each"),
        ((Stage((0, 2), (0,)), Stage((1,), (1,))), "no range"),
        ((Stage((0,), (0,)), Stage((1, 2), (0,))), "in two slices"),
        ((Stage((0, 1, 2), (0, 1), (0.5, 0.5)),), "does not allow"),
        ((Stage((0, 1, 2), (0,), (0.5,)),), "do not sum to 1"),
        ((Stage((0, 1, 2), (9,)),), "not all there"),
        ((Stage((1, 2), (0,)), Stage((0,), (1,))), "no range"),
        ((Stage((0, 1), (0,)), Stage((2,), (1,))), "c may not or cannot run on y"),
        ((Stage((0,), (0,)), Stage((1, 2), (1,))), "y cannot send to x"),
        ((Stage((0,), (0,)), Stage((1, 2), (1,))), "a, b must be on one device"),
    ],
)
def test_each_fault_is_found(stages: tuple[Stage, ...], said: str) -> None:
    case = line(
        graph=dataclasses.replace(LINE, groups=(0, 0, 1)),
        forward_seconds=np.array([[1, 2], [1, 2], [1, np.inf]]),
        seconds_per_byte=np.array([[0, 1], [np.inf, 0]]),
    )
    assert any(said in entry for entry in step_violations(case, stages))


def test_a_wrong_value_or_bound_is_refused() -> None:
    stages = (Stage((0, 1), (0,)), Stage((2,), (1,)))
    right = Solution(stages, 28.0, 20.0, "hand", False)
    assert verify_step(line(), right) == 28.0
    for wrong in ({"value": 27.0}, {"bound": 29.0}, {"stages": stages[:1]}):
        with pytest.raises(PlanUnsound, match="hand"):
            verify_step(line(), dataclasses.replace(right, **wrong))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"microbatches": 0}, "at least 1 micro-batch"),
        ({"crossing_bytes": np.zeros(3)}, "4 finite crossing sizes"),
        ({"crossing_bytes": np.array([0, -1.0, 0, 0])}, "at least 0"),
        ({"optimizer_bytes_per_weight_byte": -1.0}, "optimizer"),
        ({"backward_seconds": np.zeros((2, 2))}, "shape"),
        ({"latency_seconds": np.full((2, 2), -1.0)}, "links"),
    ],
)
def test_what_cannot_be_planned_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidCase, match=said):
        line(**changes)


@pytest.mark.slow
def test_more_devices_than_can_be_counted_are_shortlisted_and_the_bound_holds() -> None:
    dice = random.Random(3)
    case = step_case(dice, chain(dice, 8), [1] * 15)
    case = dataclasses.replace(case, capacity_bytes=np.full(15, np.inf))
    solution = solve_step(case, time_limit_seconds=3)
    assert "fastest alone" in solution.given_up
    assert not solution.exact
    assert solution.bound <= verify_step(case, solution)


def test_a_long_chain_on_devices_that_are_alike() -> None:
    dice = random.Random(4)
    case = step_case(dice, chain(dice, 120), [6])
    free = dataclasses.replace(case, capacity_bytes=np.full(6, np.inf), microbatches=8)
    solution = solve_step(free, time_limit_seconds=60)
    assert verify_step(free, solution) <= min(
        step_seconds(free, (Stage(free.graph.topological, (d,)),)) for d in range(6)
    )
    assert solution.gap < 0.05


def test_a_device_is_busy_for_what_the_simulator_has_it_do() -> None:
    compared = 0
    for seed in range(80):
        case = small_case(seed)
        for plan in itertools.islice((p for p in every_plan(case) if not step_violations(case, p)), 5):
            compared += 1
            busy = dict.fromkeys((stage.devices[0] for stage in plan), 0.0)
            for span in simulate_step(case, plan).timeline:
                if span.what == "compute" or not case.overlap:
                    busy[plan[span.stage].devices[0]] += span.end - span.start
            assert step_busy(case, plan) == pytest.approx(busy)
            needed = step_bytes(case, plan)
            assert all(size <= case.capacity_bytes[d] * (1 + 1e-9) for d, size in needed.items())
    assert compared > 100


def test_a_replica_is_busy_for_its_share_and_the_sum_of_gradients() -> None:
    case = line(replicated=True)
    busy = step_busy(case, [Stage((0, 1, 2), (0, 1), (0.75, 0.25))])
    sums_up = 2 * (60.0 / 2 * 0.5)
    assert busy == {0: 3 * 0.75 * 9.0 + sums_up, 1: 3 * 0.25 * 15.0 + sums_up}
    assert step_bytes(case, [Stage((0, 1, 2), (0, 1), (0.75, 0.25))]) == {
        0: 60.0 * 4 + 15.0 * 0.75,
        1: 60.0 * 4 + 15.0 * 0.25,
    }
