"""plan_cut: seconds of an exact minimum cut of 2,000 operators over three tiers, against networkx's Boykov-Kolmogorov.

The network is generated: residual blocks of one to three branches, long skips, activations that shrink from
stage to stage. Ours is the whole call that a planner makes, ``minimum_cut`` of a case: check of the links, capacities,
flow, plan, its value counted again, limits, certificate. What depends on the graph alone is kept from call to call;
``first_seconds`` is with a graph not seen before. The independent verifier and the certificate's checker, in plain
loops, are not in it: they run once here, for each row. The same flow, its arcs added from ready arrays, is timed in
OR-tools itself, and the value is held against a linear programme that HiGHS solves.

``rows`` has other families, sizes and numbers of tiers: ``ratio`` is ours over OR-tools' own solve. Of the published
graphs, with 41 to 177 operators, OR-tools takes some ten microseconds; there, our numpy calls are what is measured.
"""

from __future__ import annotations

import dataclasses
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import networkx as nx
import numpy as np
from networkx.algorithms.flow import boykov_kolmogorov, build_residual_network
from ortools.graph.python.max_flow import SimpleMaxFlow

from benchmarks import cut_graphs
from benchmarks.report import report
from isthmus.planning.slicing.case import SumCase
from isthmus.planning.slicing.certificates import check_cut
from isthmus.planning.slicing.cut import minimum_cut
from isthmus.planning.slicing.cut_network import Network, build
from isthmus.planning.slicing.cut_skeleton import SINK, SOURCE
from isthmus.planning.slicing.solution import CutCertificate, Solution
from isthmus.planning.slicing.verify import verify

OPERATORS, TIERS = 2000, 3
SEED = 1
ROUNDS = 7
TURNS = 10
"""Of ours and OR-tools' own solve in each round; both take milliseconds."""
ROW_TURNS = 21


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


def check(case: SumCase) -> Solution:
    """Return the cut, verified, and certified; its bound is the linear programme's, where that is the same model.

    Raises:
        SystemExit: one of them disagrees.
    """
    found = minimum_cut(case)
    if not isinstance(found.certificate, CutCertificate):
        raise SystemExit(f"needs a certified cut; it says: {found.given_up}")
    value, proven = verify(case, found), check_cut(case, found.certificate)
    agree = [found.bound, proven, *([value] if found.exact else [])]
    # In the programme data moves forward only. Larger ones take HiGHS many seconds.
    if case.monotone and case.cost.size <= OPERATORS * TIERS:
        agree.append(linear_programme(case))
    if max(agree) - min(agree) > 1e-6 * value:
        raise SystemExit(
            f"bound, certificate, value of an exact plan, and HiGHS's programme disagree: {agree}"
        )
    return found


def measure(case: SumCase) -> dict[str, float]:
    """Return the median seconds of each method; they take turns. ``first``: ours on a graph not seen before."""
    flow = build(case)
    ready = residual(flow)
    seconds: dict[str, list[float]] = {"first": [], "ours": [], "ortools": [], "networkx": []}
    for _ in range(ROUNDS):
        fresh = dataclasses.replace(case, graph=dataclasses.replace(case.graph))
        seconds["first"].append(timed(lambda case=fresh: minimum_cut(case)))
        take_turns(case, flow, TURNS, seconds)
        seconds["networkx"].append(timed(lambda: boykov_kolmogorov(ready, SOURCE, SINK, residual=ready)))
    if ready.graph["flow_value"] != ortools_alone(flow):
        raise SystemExit(f"networkx's flow is {ready.graph['flow_value']}, OR-tools' {ortools_alone(flow)}")
    return {name: statistics.median(found) for name, found in seconds.items()}


def take_turns(case: SumCase, flow: Network, turns: int, seconds: dict[str, list[float]]) -> None:
    """Time ours and OR-tools' own solve, first one and then the other first."""
    acts = [("ours", lambda: minimum_cut(case)), ("ortools", lambda: ortools_alone(flow))]
    for turn in range(turns):
        for name, act in acts[:: 1 if turn % 2 else -1]:
            seconds[name].append(timed(act))


def row(member: cut_graphs.Member) -> dict[str, Any]:
    """Check a case and time it; medians, in seconds."""
    found = check(member.case)
    seconds: dict[str, list[float]] = {"ours": [], "ortools": []}
    take_turns(member.case, build(member.case), ROW_TURNS, seconds)
    ours, alone = statistics.median(seconds["ours"]), statistics.median(seconds["ortools"])
    name = f"{member.name}, {member.operators} operators, {member.tiers} tiers"
    print(f"{name:50} {1e3 * ours:8.3f} ms  {ours / alone:6.3f}", file=sys.stderr)
    return {
        "graph": member.name,
        "operators": member.operators,
        "tiers": member.tiers,
        "exact": found.exact,
        "ours_seconds": round(ours, 6),
        "ortools_seconds": round(alone, 6),
        "ratio": round(ours / alone, 3),
    }


def main() -> None:
    """Check the plan, then time the methods in turns; then every other family."""
    case = cut_graphs.generated(cut_graphs.residual, OPERATORS, TIERS, SEED)
    found = check(case)
    if not found.exact:
        raise SystemExit(f"needs an exact cut of the generated network; it says: {found.given_up}")
    seconds, flow = measure(case), build(case)
    rows = [row(member) for member in cut_graphs.members()]
    large = [each["ratio"] for each in rows if (each["operators"], each["tiers"]) == (OPERATORS, TIERS)]
    own = round(seconds["ours"] / seconds["ortools"], 3)
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
        ortools_ratio=own,
        ortools_ratio_goal=1.3,
        worst_ortools_ratio=max(own, *large),
        worst_of="the graphs of 2,000 operators over three tiers",
        value=round(found.value, 9),
        operators=OPERATORS,
        nodes=int(flow.node.size),
        arcs=len(flow.tail),
        rounds=ROUNDS,
        rows=rows,
        reference_is="networkx's boykov_kolmogorov on the same flow network, its residual network ready made",
    )


if __name__ == "__main__":
    main()
