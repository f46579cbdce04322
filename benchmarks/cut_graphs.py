"""Cases of one request's latency over ordered tiers, for ``plan_cut``: generated graphs of many kinds, and PipeDream's.

Seeds were chosen before anything was timed. Unless a family says otherwise, costs are close from tier to tier and
each operator has its own (``SPREAD``): tiers far apart make the cut obvious, and every method quick.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from benchmarks import workloads
from isthmus.planning.slicing.case import Graph, Signal, SumCase

if TYPE_CHECKING:
    from isthmus.planning.slicing.case import Floats

TIERS = ("edge", "on-premises", "cloud", "second cloud")
HOPS = ((20e-6, 8 / 10e9), (60e-6, 8 / 10e9), (40e-6, 8 / 5e9))
"""Seconds, and seconds a byte, of each hop: 10 Gb/s, over a switch and over a direct line to the region; 5 Gb/s."""
KINDS = {
    "dense": (1.2, 1.1, 1.0, 0.95),
    "memory": (1.2, 1.0, 1.05, 1.0),
    "small": (1.0, 1.1, 1.2, 1.2),
}
"""How much longer tiers take for a kind of operator: a large matrix product, elementwise work, launch overhead."""
SPREAD = 1.0
"""Of the logarithm of what one operator takes on one tier: each has kernels of its own."""
SHARE = (0.35, 0.45, 0.2)

Readers = list[set[int]]
Shape = Callable[[random.Random, int], Readers]


class Member(NamedTuple):
    """``operators``, ``tiers``: how large the case is; the published ones are as large as they are."""

    name: str
    operators: int
    tiers: int
    case: SumCase


def residual(dice: random.Random, n: int) -> Readers:
    """Residual blocks of one to three branches, with long skips."""
    readers: Readers = [set() for _ in range(n)]
    joins, v = [0], 1
    while v < n:
        start, ends = joins[-1], []
        for _ in range(dice.choice((1, 1, 1, 2, 3))):
            last = start
            for _ in range(dice.randint(2, 6)):
                if v < n - 1:
                    readers[last].add(v)
                    last, v = v, v + 1
            ends.append(last)
        join = min(v, n - 1)
        skipped = {start} if dice.random() < 0.7 else set()
        if len(joins) > 20 and dice.random() < 0.05:
            skipped.add(dice.choice(joins[-20:]))
        for end in {*ends, *skipped} - {join}:
            readers[end].add(join)
        joins.append(join)
        v = join + 1
    return readers


def chain(_dice: random.Random, n: int) -> Readers:
    """One operator after another."""
    return [{v + 1} if v < n - 1 else set() for v in range(n)]


def inception(dice: random.Random, n: int) -> Readers:
    """Three to five branches between concatenations."""
    readers: Readers = [set() for _ in range(n)]
    join, v = 0, 1
    while v < n:
        ends = []
        for _ in range(dice.randint(3, 5)):
            last = join
            for _ in range(dice.randint(1, 4)):
                if v < n - 1:
                    readers[last].add(v)
                    last, v = v, v + 1
            ends.append(last)
        join = min(v, n - 1)
        for end in set(ends) - {join}:
            readers[end].add(join)
        v = join + 1
    return readers


def dag(degree: float, span: int) -> Shape:
    """Each operator reads about ``degree`` of the ``span`` before it."""

    def readers(dice: random.Random, n: int) -> Readers:
        found: Readers = [set() for _ in range(n)]
        for v in range(1, n):
            for _ in range(max(1, min(v, int(dice.expovariate(1 / degree) + 0.5)))):
                found[dice.randint(max(0, v - span), v - 1)].add(v)
        return found

    return readers


def network(readers: Readers, sizes: Sequence[float]) -> Graph:
    """Return the graph; ``sizes``: bytes by operator."""
    signals = (Signal(u, tuple(sorted(found)), sizes[u]) for u, found in enumerate(readers) if found)
    return Graph(tuple(f"op{u}" for u in range(len(readers))), tuple(signals))


def generated(shape: Shape, n: int, tiers: int, seed: int, spread: float = SPREAD) -> SumCase:
    """Return a case whose raw input lies at the edge, and whose first operators stay in the house; activations shrink
    from stage to stage."""
    dice = random.Random(seed)
    readers = shape(dice, n)
    sizes = [4e5 * 0.25 ** (5 * u // n) * dice.lognormvariate(0, 0.6) for u in range(n)]
    kinds = dice.choices(list(KINDS), SHARE, k=n)
    base = [
        dice.lognormvariate(0, 1) * {"dense": 60e-6, "memory": 20e-6, "small": 8e-6}[kind] for kind in kinds
    ]
    cost = np.array(
        [
            [base[v] * pace * dice.lognormvariate(0, spread) for pace in KINDS[kinds[v]][:tiers]]
            for v in range(n)
        ]
    )
    cost[0, 1:] = np.inf
    cost[: n // 50, -1] = np.inf
    return over(network(readers, sizes), cost, HOPS[: tiers - 1])


def uniform(n: int, tiers: int, seed: int) -> SumCase:
    """Return a case whose costs and sizes are drawn evenly, and which may start anywhere."""
    dice = random.Random(seed)
    graph = network(dag(2, 50)(dice, n), [dice.uniform(0, 5) for _ in range(n)])
    cost = np.array([[dice.uniform(1, 10) for _ in range(tiers)] for _ in range(n)])
    return over(graph, cost, [(0.0, 1.0)] * (tiers - 1))


def steady(n: int, tiers: int, seed: int) -> SumCase:
    """Return a case in which each tier is four times as fast as the one before, over slow links."""
    dice = random.Random(seed)
    graph = network(residual(dice, n), [4e5 * 0.25 ** (5 * u // n) for u in range(n)])
    cost = np.array([[dice.uniform(0.5e-3, 5e-3)] * tiers for _ in range(n)]) / 4.0 ** np.arange(tiers)
    cost[0, 1:] = np.inf
    return over(graph, cost, [(5e-3, 8 / 1e8)] * (tiers - 1))


def published(name: str) -> SumCase:
    """Return a training step of a network that PipeDream measured, on tiers of which the last is the fastest."""
    profile = workloads.pipedream(name)
    seconds = np.array([node.forward_seconds + node.backward_seconds for node in profile.nodes])
    cost = seconds[:, None] * np.array([8.0, 2.0, 1.0])
    cost[0, 1:] = np.inf
    return over(profile.graph, cost, [(1e-3, 8 / 10e9)] * 2)


def over(graph: Graph, cost: Floats, hops: Sequence[tuple[float, float]]) -> SumCase:
    """Return a case without limits on ordered tiers, between which data moves only forward."""
    m = len(hops) + 1
    links = [
        np.array(
            [[sum(hop[i] for hop in hops[a:b]) if a <= b else np.inf for b in range(m)] for a in range(m)]
        )
        for i in (0, 1)
    ]
    free = np.full(m, np.inf)
    return SumCase(graph, TIERS[:m], cost, np.zeros(len(cost)), free, links[0], links[1], monotone=True)


def any_way(case: SumCase) -> SumCase:
    """Return the case with links back at the same price."""
    fixed, per_size = (
        np.where(np.isfinite(way), way, way.T) for way in (case.link_fixed, case.link_per_size)
    )
    return SumCase(
        case.graph, case.devices, case.cost, case.memory_bytes, case.capacity_bytes, fixed, per_size
    )


def members() -> Iterator[Member]:
    """Yield every case but the benchmark's own."""
    shapes: list[tuple[str, Shape, int]] = [
        ("residual", residual, 101),
        ("chain", chain, 102),
        ("inception", inception, 103),
        ("dag, degree 1", dag(1, 20), 104),
        ("dag, degree 2", dag(2, 50), 105),
        ("dag, degree 4, far", dag(4, 2000), 106),
        ("dag, degree 8", dag(8, 200), 107),
    ]
    for name, shape, seed in shapes:
        yield Member(name, 2000, 3, generated(shape, 2000, 3, seed))
    yield Member("residual, tiers alike", 2000, 3, generated(residual, 2000, 3, 108, spread=0.3))
    yield Member("uniform", 2000, 3, uniform(2000, 3, 109))
    yield Member("each tier faster", 2000, 3, steady(2000, 3, 110))
    for name, shape, seed in shapes[:5]:
        yield Member(name, 5000, 3, generated(shape, 5000, 3, seed))
        yield Member(name, 500, 3, generated(shape, 500, 3, seed))
        yield Member(name, 2000, 2, generated(shape, 2000, 2, seed))
        yield Member(name, 2000, 4, generated(shape, 2000, 4, seed))
    yield Member("residual, links back", 2000, 3, any_way(generated(residual, 2000, 3, 111)))
    for name in ("vgg16", "resnet50", "gnmt", "squeezenet1_0"):
        case = published(name)
        yield Member(f"pipedream {name}", len(case.graph.names), 3, case)
