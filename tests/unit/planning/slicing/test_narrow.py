"""What is narrowed away is in no plan that is as good; the programme has room for every plan that is left."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest
from slicing_instances import chain, dag, every_plan, load_case

from isthmus.planning.slicing import free_mip
from isthmus.planning.slicing.blocks import Blocks, contract
from isthmus.planning.slicing.case import Graph, LoadCase, Signal
from isthmus.planning.slicing.free_constraints import Constraints
from isthmus.planning.slicing.kinds import kinds
from isthmus.planning.slicing.narrow import Narrowed, narrow
from isthmus.planning.slicing.solution import Stage
from isthmus.planning.slicing.verify import objective, violations


def instance(seed: int) -> LoadCase:
    dice = random.Random(seed)
    counts = dice.choice([[1, 1], [2, 1], [3]])
    n = dice.randint(3, 5)
    graph = chain(dice, n) if dice.random() < 0.3 else dag(dice, n, grouped=dice.random() < 0.3)
    signals = tuple(dataclasses.replace(s, size=s.size * dice.choice([1, 5, 25])) for s in graph.signals)
    graph = dataclasses.replace(graph, signals=signals)
    case = load_case(dice, graph, counts, contiguous=False, overlap=dice.random() < 0.3)
    roomy = dataclasses.replace(case, capacity_bytes=np.full(len(case.devices), np.inf))
    return roomy if seed % 2 else case


def possible_plans(case: LoadCase) -> list[tuple[float, tuple[Stage, ...]]]:
    plans = every_plan(case.graph, len(case.devices))
    return sorted(
        ((objective(case, stages), stages) for stages in plans if not violations(case, stages)),
        key=lambda plan: plan[0],
    )


def by_block(blocks: Blocks, stages: tuple[Stage, ...]) -> np.ndarray:
    device_of = {v: stage.devices[0] for stage in stages for v in stage.operators}
    return np.array([device_of[members[0]] for members in blocks.members])


def test_no_plan_as_good_is_lost() -> None:
    merged = barred = 0
    for seed in range(90):
        case = instance(seed)
        plans, blocks = possible_plans(case), contract(case, contiguous=False)
        if not plans or len(blocks.members) < len(case.graph.colocated):
            continue
        value = plans[len(plans) // 20 if seed % 3 == 0 else 0][0]
        narrowed = narrow(case, blocks, value)
        assert min(narrowed.bound, value) <= plans[0][0] * (1 + 1e-9), seed
        for _, stages in (plan for plan in plans if plan[0] <= value):
            device_of = by_block(narrowed.blocks, stages)
            assert np.array_equal(device_of[narrowed.label], by_block(blocks, stages)), seed
            assert np.isfinite(narrowed.blocks.seconds[np.arange(len(device_of)), device_of]).all(), seed
            for (p, r), possible in narrowed.parted.items():
                d, e = kind_of(case, device_of[p]), kind_of(case, device_of[r])
                assert device_of[p] == device_of[r] or possible[d, e], seed
        merged += len(narrowed.blocks.members) < len(blocks.members)
        barred += bool(np.isinf(narrowed.blocks.seconds).sum() > np.isinf(blocks.seconds).sum())
    assert merged > 2
    assert barred > 2


def kind_of(case: LoadCase, device: int) -> int:
    return next(t for t, members in enumerate(kinds(case).members) if device in members)


def test_the_programme_counts_what_the_verifier_counts() -> None:
    for seed in range(30):
        case = instance(seed)
        plans = possible_plans(case)
        if not plans:
            continue
        blocks = contract(case, contiguous=False)
        worst = plans[-1][0]
        everything = Narrowed(blocks, np.arange(len(blocks.members)), {}, 0.0)
        model = free_mip.build(case, everything, worst)
        for value, stages in plans[::7]:
            device_of = by_block(blocks, stages)
            start = model.start(device_of)
            top = start[model.top] * worst
            assert top == pytest.approx(objective(case, blocks.stages(device_of)), rel=1e-9), seed
            assert top <= value * (1 + 1e-9)


def test_the_narrowed_programmes_have_the_best_plan() -> None:
    for seed in range(24):
        case = instance(seed)
        plans, blocks = possible_plans(case), contract(case, contiguous=False)
        if not plans:
            continue
        value, stages = plans[len(plans) // 4]
        narrowed = narrow(case, blocks, value)
        model = free_mip.build(case, narrowed, value)
        device = by_block(narrowed.blocks, stages)
        if not np.isfinite(narrowed.blocks.seconds[np.arange(len(device)), device]).all():
            continue
        first = narrowed.blocks.stages(model.ordered(device))
        rules = Constraints(case, narrowed.blocks, first, 0.0)
        rules.narrow(narrowed.parted, model.heavy)
        found = rules.solve(10.0, 1)
        assert found.closed, seed
        assert found.stages is not None, seed
        assert objective(case, found.stages) == pytest.approx(plans[0][0], rel=1e-6), seed
        outcome = model.programme.solve(10.0)
        assert outcome.bound * value == pytest.approx(plans[0][0], rel=1e-6), seed


def test_a_signal_that_costs_more_than_the_plan_ties_its_ends() -> None:
    graph = Graph(("a", "b", "c"), (Signal(0, (1,), 100.0), Signal(1, (2,), 1.0)))
    case = LoadCase(
        graph=graph,
        devices=("d0", "d1"),
        seconds=np.full((3, 2), 4.0),
        memory_bytes=np.zeros(3),
        capacity_bytes=np.full(2, np.inf),
        send_seconds=np.ones((2, 2)),
        receive_seconds=np.ones((2, 2)),
        contiguous=False,
    )
    narrowed = narrow(case, contract(case, contiguous=False), 9.0)
    assert narrowed.label.tolist() in ([0, 0, 1], [1, 1, 0])
    assert narrowed.bound == pytest.approx(6.0)
