"""Random small training cases, and the best plan by trying every one, scored by the verifier alone."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Iterator

import numpy as np
from slicing_instances import chain

from isthmus.planning.slicing.case import Graph
from isthmus.planning.slicing.solution import Stage
from isthmus.planning.slicing.step_case import StepCase, prefix_cut_sizes
from isthmus.planning.slicing.verify_step import step_seconds, step_violations


def step_case(dice: random.Random, graph: Graph, kinds: list[int], *, replicated: bool = False) -> StepCase:
    """``kinds``: devices of each type; those of one type are alike. Most are short of memory, some
    types cannot reach each other, and transfers cost nothing, little or much."""
    n, kind_of = len(graph.names), [k for k, count in enumerate(kinds) for _ in range(count)]
    forward = np.array([dice.uniform(0.2, 5) for _ in range(n)])
    backward = forward * np.array([dice.uniform(0.2, 3) for _ in range(n)])
    pace = np.array([dice.uniform(0.3, 3) for _ in kinds])
    pace_back = pace * np.array([dice.choice([1.0, dice.uniform(0.5, 2)]) for _ in kinds])
    links = dice.choice([0.0, 0.3, 1.5])
    per_byte, latency = (
        links * np.array([[dice.uniform(0, 1) for _ in kinds] for _ in kinds]) for _ in range(2)
    )
    if len(kinds) > 1 and dice.random() < 0.15:
        a, b = dice.sample(range(len(kinds)), 2)
        per_byte[a, b] = latency[a, b] = np.inf
    weights, left = (np.array([float(dice.randint(0, 9)) for _ in range(n)]) for _ in range(2))
    tight = dice.random() < 0.85
    whole = 4 * weights.sum() + 2 * left.sum()
    rooms = np.array([dice.uniform(0.35, 0.65) * whole if tight else np.inf for _ in kinds])
    return StepCase(
        graph=graph,
        devices=tuple(f"d{i}" for i in range(len(kind_of))),
        forward_seconds=forward[:, None] * pace[kind_of],
        backward_seconds=backward[:, None] * pace_back[kind_of],
        parameter_bytes=weights,
        activation_bytes=left,
        crossing_bytes=prefix_cut_sizes(graph),
        seconds_per_byte=per_byte[np.ix_(kind_of, kind_of)],
        latency_seconds=latency[np.ix_(kind_of, kind_of)],
        capacity_bytes=rooms[kind_of],
        microbatches=dice.randint(1, 7),
        overlap=dice.random() < 0.6,
        replicated=replicated,
    )


def small_case(seed: int, *, replicated: bool = False) -> StepCase:
    """Return a case of at most six operators and four devices, alike, of two types, or all different."""
    dice = random.Random(seed)
    kinds = dice.choice(
        [[3], [2, 1], [1, 1, 1], [4]] if replicated else [[3], [2, 1], [1, 1, 1], [4], [2, 2]]
    )
    return step_case(dice, chain(dice, dice.randint(1, 4 if replicated else 6)), kinds, replicated=replicated)


def brute_force(case: StepCase) -> float | None:
    """Return the best value over all ranges and devices; None when no plan is allowed."""
    values = (step_seconds(case, plan) for plan in every_plan(case) if not step_violations(case, plan))
    return min(values, default=None)


def every_plan(case: StepCase) -> Iterator[tuple[Stage, ...]]:
    """Return every partition into ranges on every choice of devices, replicas by their rates."""
    order, m = case.graph.topological, len(case.devices)
    for count in range(1, min(len(order), m) + 1):
        for cuts in itertools.combinations(range(1, len(order)), count - 1):
            ranges = [order[a:b] for a, b in itertools.pairwise((0, *cuts, len(order)))]
            for devices in _choices(case, count):
                yield tuple(
                    Stage(part, chosen, _by_rate(case, part, chosen))
                    for part, chosen in zip(ranges, devices, strict=True)
                )


def _choices(case: StepCase, count: int) -> Iterator[tuple[tuple[int, ...], ...]]:
    m = len(case.devices)
    if not case.replicated:
        yield from (tuple((d,) for d in chosen) for chosen in itertools.permutations(range(m), count))
        return
    for stage_of in itertools.product(range(-1, count), repeat=m):
        if set(range(count)) <= set(stage_of):
            yield tuple(tuple(d for d in range(m) if stage_of[d] == k) for k in range(count))


def _by_rate(case: StepCase, part: tuple[int, ...], chosen: tuple[int, ...]) -> tuple[float, ...]:
    seconds = case.forward_seconds + case.backward_seconds
    rates = [1 / sum(float(seconds[v, d]) for v in part) for d in chosen]
    return tuple(rate / sum(rates) for rate in rates)


def memory_binds(case: StepCase, best: float) -> bool:
    """Whether the case without its limits of memory has a better plan."""
    free = brute_force(dataclasses.replace(case, capacity_bytes=np.full(len(case.devices), np.inf)))
    return free is not None and free < best - 1e-12
