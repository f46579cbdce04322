"""plan_cut: seconds of an exact minimum cut of 2,000 operators over three tiers, against networkx's Boykov-Kolmogorov.

The network is generated: residual blocks of one to three branches, long skips, activations that shrink from
stage to stage. Ours is the whole of ``minimum_cut``: arrays, flow, plan, certificate. The same flow on ready
arrays is timed in OR-tools itself, and the value is held against a linear programme that HiGHS solves.
"""

from __future__ import annotations

import dataclasses
import random
import statistics
import sys
import time
from collections.abc import Callable

import networkx as nx
import numpy as np
from networkx.algorithms.flow import boykov_kolmogorov, build_residual_network
from ortools.graph.python.max_flow import SimpleMaxFlow

from benchmarks.report import report
from isthmus.planning.slicing.case import Graph, Signal, SumCase
from isthmus.planning.slicing.certificates import check_cut
from isthmus.planning.slicing.cut import minimum_cut
from isthmus.planning.slicing.cut_network import SINK, SOURCE, Network, build
from isthmus.planning.slicing.solution import CutCertificate
from isthmus.planning.slicing.verify import verify

OPERATORS = 2000
SEED = 1
ROUNDS = 7
TURNS = 10
"""Of ours and OR-tools' own solve in each round; both take milliseconds."""
TIERS = ("edge", "on-premises", "cloud")
HOPS = ((20e-6, 8 / 10e9), (60e-6, 8 / 10e9))
"""Seconds, and seconds a byte, of each hop: 10 Gb/s, over a switch and over a direct line to the region."""
KINDS = {"dense": (1.2, 1.1, 1.0), "memory": (1.2, 1.0, 1.05), "small": (1.0, 1.1, 1.2)}
"""How much longer tiers take for a kind of operator: a large matrix product, elementwise work, launch overhead.
Tiers far apart make the cut obvious, and every method quick; these are close, so that it has to be found."""
SPREAD = 1.0
"""Of the logarithm of what one operator takes on one tier: each has kernels of its own."""
SHARE = (0.35, 0.45, 0.2)


def network(dice: random.Random, n: int) -> Graph:
    """Return residual blocks with branches, each stage's activations smaller than those of the one before."""
    readers: list[set[int]] = [set() for _ in range(n)]
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
    sizes = [4e5 * 0.25 ** (5 * u // n) * dice.lognormvariate(0, 0.6) for u in range(n)]
    signals = (Signal(u, tuple(sorted(found)), sizes[u]) for u, found in enumerate(readers) if found)
    return Graph(tuple(f"op{u}" for u in range(n)), tuple(signals))


def generated(n: int, seed: int) -> SumCase:
    """Return one request's latency; the raw input lies at the edge, and the first operators stay in the house."""
    dice = random.Random(seed)
    graph = network(dice, n)
    kinds = dice.choices(list(KINDS), SHARE, k=n)
    base = [
        dice.lognormvariate(0, 1) * {"dense": 60e-6, "memory": 20e-6, "small": 8e-6}[kind] for kind in kinds
    ]
    cost = np.array(
        [[base[v] * pace * dice.lognormvariate(0, SPREAD) for pace in KINDS[kinds[v]]] for v in range(n)]
    )
    cost[0, 1:] = np.inf
    cost[: n // 50, 2] = np.inf
    links = [
        np.array(
            [[sum(hop[i] for hop in HOPS[a:b]) if a <= b else np.inf for b in range(3)] for a in range(3)]
        )
        for i in (0, 1)
    ]
    free = np.full(3, np.inf)
    return SumCase(graph, TIERS, cost, np.zeros(n), free, links[0], links[1], monotone=True)


def linear_programme(case: SumCase) -> float:
    """Return the least of the relaxation, whose rows are written from the case alone: whether operator v runs on
    tier k or later is a number between 0 and 1, and a signal pays a hop as far as any reader is beyond it."""
    from scipy.optimize import linprog
    from scipy.sparse import coo_array

    n, hops = case.cost.shape[0], case.cost.shape[1] - 1
    finite = np.where(np.isfinite(case.cost), case.cost, 0.0)
    cost, rows, bounds = list(np.diff(finite).ravel()), [], []
    for v in range(n):
        may = np.isfinite(case.cost[v])
        bounds += [(float(not may[:k].any()), float(may[k:].any())) for k in range(1, hops + 1)]
        rows += [[(v * hops + k, 1.0), (v * hops + k - 1, -1.0)] for k in range(1, hops)]
    for signal in case.graph.signals:
        for k in range(hops):
            pays = len(cost)
            cost.append(case.link_fixed[k, k + 1] + signal.size * case.link_per_size[k, k + 1])
            bounds.append((0.0, 1.0))
            at = signal.producer * hops + k
            for reader in signal.consumers:
                rows.append([(reader * hops + k, 1.0), (at, -1.0), (pays, -1.0)])
                rows.append([(at, 1.0), (reader * hops + k, -1.0)])
    entries = [(r, c, x) for r, row in enumerate(rows) for c, x in row]
    r, c, x = zip(*entries, strict=True)
    matrix = coo_array((x, (r, c)), shape=(len(rows), len(cost))).tocsr()
    found = linprog(cost, A_ub=matrix, b_ub=np.zeros(len(rows)), bounds=bounds, method="highs")
    if not found.success:
        raise SystemExit(f"needs the linear programme's optimum; HiGHS said: {found.message}")
    return float(found.fun + finite[:, 0].sum())


def residual(flow: Network) -> nx.DiGraph:
    """Return networkx's residual network, ready made: it need not build it in each round."""
    graph = nx.DiGraph()
    for tail, head, capacity in zip(
        *(part.tolist() for part in (flow.tail, flow.head, flow.capacity)), strict=True
    ):
        before = graph.edges[tail, head]["capacity"] if graph.has_edge(tail, head) else 0
        graph.add_edge(tail, head, capacity=before + capacity)
    return build_residual_network(graph, "capacity")


def timed(act: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def ortools_alone(flow: Network) -> int:
    """Solve the flow on ready arrays, and no more."""
    solver = SimpleMaxFlow()
    solver.add_arcs_with_capacity(flow.tail, flow.head, flow.capacity)
    solver.solve(SOURCE, SINK)
    return int(solver.optimal_flow())


def check(case: SumCase) -> float:
    """Return the value of the cut, verified, certified, and equal to the linear programme's.

    Raises:
        SystemExit: one of them disagrees.
    """
    found = minimum_cut(case)
    if not (found.exact and isinstance(found.certificate, CutCertificate)):
        raise SystemExit(f"needs an exact cut of the generated network; it says: {found.given_up}")
    value, proven, programme = verify(case, found), check_cut(case, found.certificate), linear_programme(case)
    if max(abs(value - proven), abs(value - programme)) > 1e-6 * value:
        raise SystemExit(
            f"the cut is {value!r}, its certificate {proven!r}, and HiGHS's programme {programme!r}"
        )
    print(f"cut {value:.9f} s, proven {proven:.9f} s, HiGHS {programme:.9f} s", file=sys.stderr)
    on = found.device_of(len(case.graph.names))
    print(f"operators: { {tier: on.count(k) for k, tier in enumerate(TIERS)} }", file=sys.stderr)
    return value


def measure(case: SumCase) -> dict[str, float]:
    """Return the median seconds of each method; they take turns. ``first``: ours on a graph not seen before."""
    flow = build(case)
    ready = residual(flow)
    ours, alone = (lambda: minimum_cut(case)), (lambda: ortools_alone(flow))
    seconds: dict[str, list[float]] = {"first": [], "ours": [], "ortools": [], "networkx": []}
    for _ in range(ROUNDS):
        fresh = dataclasses.replace(case, graph=dataclasses.replace(case.graph))
        seconds["first"].append(timed(lambda case=fresh: minimum_cut(case)))
        for turn in range(TURNS):
            for name, act in [("ours", ours), ("ortools", alone)][:: 1 if turn % 2 else -1]:
                seconds[name].append(timed(act))
        seconds["networkx"].append(timed(lambda: boykov_kolmogorov(ready, SOURCE, SINK, residual=ready)))
    if ready.graph["flow_value"] != ortools_alone(flow):
        raise SystemExit(f"networkx's flow is {ready.graph['flow_value']}, OR-tools' {ortools_alone(flow)}")
    return {name: statistics.median(found) for name, found in seconds.items()}


def main() -> None:
    """Check the plan, then time the methods in turns."""
    case = generated(OPERATORS, SEED)
    value = check(case)
    seconds = measure(case)
    flow = build(case)
    report(
        "plan_cut",
        ours=round(1e3 * seconds["ours"], 4),
        reference=round(1e3 * seconds["networkx"], 4),
        unit="ms",
        speedup=True,
        ours_seconds=round(seconds["ours"], 5),
        ours_seconds_goal=0.05,
        first_seconds=round(seconds["first"], 5),
        ortools_seconds=round(seconds["ortools"], 5),
        ortools_ratio=round(seconds["ours"] / seconds["ortools"], 3),
        ortools_ratio_goal=1.3,
        value=round(value, 9),
        operators=OPERATORS,
        nodes=int(flow.node.size),
        arcs=len(flow.tail),
        rounds=ROUNDS,
        reference_is="networkx's boykov_kolmogorov on the same flow network, its residual network ready made",
    )


if __name__ == "__main__":
    main()
