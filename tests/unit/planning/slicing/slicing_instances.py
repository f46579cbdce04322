"""Random small cases, and the best plan by trying every one: what each method has to equal.

Scored by the verifier alone, which shares no code with the methods.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import numpy as np

from isthmus.planning.slicing.case import Graph, LoadCase, Signal, SumCase
from isthmus.planning.slicing.solution import Stage, from_assignment
from isthmus.planning.slicing.verify import objective, violations


def chain(dice: random.Random, n: int) -> Graph:
    """Operators in a row, each of which reads the one before."""
    signals = [Signal(v, (v + 1,), dice.choice([0.0, dice.uniform(0.1, 5)])) for v in range(n - 1)]
    return Graph(tuple(f"op{v}" for v in range(n)), tuple(signals))


def dag(dice: random.Random, n: int, *, grouped: bool = False) -> Graph:
    """A connected graph in which an operator's output may be read by several."""
    readers: dict[int, set[int]] = {v: set() for v in range(n)}
    for v in range(1, n):
        for u in dice.sample(range(v), k=min(v, dice.choice([1, 1, 2]))):
            readers[u].add(v)
    signals = [Signal(u, tuple(sorted(found)), dice.uniform(0, 5)) for u, found in readers.items() if found]
    groups = list(range(n))
    if grouped and n > 2:
        u, v = dice.sample(range(n), 2)
        groups[v] = groups[u]
    return Graph(tuple(f"op{v}" for v in range(n)), tuple(signals), groups=tuple(groups) if grouped else ())


def load_case(dice: random.Random, graph: Graph, kinds: list[int], **flags: bool) -> LoadCase:
    """``kinds``: devices of each type; those of one type are alike. Every third case is short of memory."""
    n, m = len(graph.names), sum(kinds)
    kind_of = [k for k, count in enumerate(kinds) for _ in range(count)]
    base = [dice.uniform(0.5, 10) for _ in range(n)]
    pace = [dice.uniform(0.3, 3) for _ in kinds]
    refused = {(v, k) for v in range(n) for k in range(1, len(kinds)) if dice.random() < 0.1}
    side = [dice.choice([0.0, dice.uniform(0.05, 1)]) for _ in kinds]
    memory = np.array([float(dice.randint(0, 9)) for _ in range(n)])
    tight = dice.random() < 0.95
    rooms = [float(dice.uniform(0.4, 0.65) * memory.sum()) if tight else np.inf for _ in kinds]
    return LoadCase(
        graph=graph,
        devices=tuple(f"d{i}" for i in range(m)),
        seconds=np.array(
            [[np.inf if (v, k) in refused else base[v] * pace[k] for k in kind_of] for v in range(n)]
        ),
        memory_bytes=memory,
        capacity_bytes=np.array([rooms[k] for k in kind_of]),
        send_seconds=np.array([[side[k]] * m for k in kind_of]),
        receive_seconds=np.array([[side[k] for k in kind_of]] * m),
        **flags,
    )


def sum_case(dice: random.Random, graph: Graph, m: int, *, monotone: bool, tight: bool) -> SumCase:
    """Tiers of which later ones are faster; hops add up, so that a cut can be exact."""
    n = len(graph.names)
    base = [dice.uniform(0.5, 10) for _ in range(n)]
    pace = sorted((dice.uniform(0.1, 3) for _ in range(m)), reverse=True)
    hops = [dice.uniform(0.05, 2) for _ in range(m)]
    waits = [dice.uniform(0, 1) for _ in range(m)]
    memory = np.array([float(dice.randint(0, 9)) for _ in range(n)])
    cost = np.array([[base[v] * pace[k] for k in range(m)] for v in range(n)])
    cost[0, 1:] = np.inf  # the raw input stays on the first device
    rooms = [dice.uniform(0.4, 0.9) * memory.sum() if tight else np.inf for _ in range(m)]
    return SumCase(
        graph=graph,
        devices=tuple(f"d{k}" for k in range(m)),
        cost=cost,
        memory_bytes=memory,
        capacity_bytes=np.array(rooms),
        link_fixed=np.array([[sum(waits[min(a, b) : max(a, b)]) for b in range(m)] for a in range(m)]),
        link_per_size=np.array([[sum(hops[min(a, b) : max(a, b)]) for b in range(m)] for a in range(m)]),
        monotone=monotone,
    )


def brute_force(case: LoadCase | SumCase) -> tuple[float, tuple[Stage, ...]] | None:
    """Return the best value and plan without replicas of all ``m ** groups``; None when none is allowed."""
    graph, best = case.graph, None
    for stages in every_plan(graph, len(case.devices)):
        if violations(case, stages):
            continue
        value = objective(case, stages)
        if best is None or value < best[0]:
            best = (value, stages)
    return best


def every_plan(graph: Graph, m: int) -> Iterator[tuple[Stage, ...]]:
    """Return every assignment of co-located groups to devices."""
    for choice in itertools.product(range(m), repeat=len(graph.colocated)):
        device_of = [0] * len(graph.names)
        for device, members in zip(choice, graph.colocated, strict=True):
            for v in members:
                device_of[v] = device
        yield from_assignment(tuple(device_of))


def memory_binds(case: LoadCase | SumCase, best: float) -> bool:
    """Whether the case without its limits of memory has a better plan."""
    import dataclasses

    free = dataclasses.replace(case, capacity_bytes=np.full(len(case.devices), np.inf))
    found = brute_force(free)
    return found is not None and found[0] < best - 1e-12
