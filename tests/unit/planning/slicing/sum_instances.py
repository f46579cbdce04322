"""Random small cases of sums, and the best of each by trying every plan at once.

Counted on arrays of all assignments, from the definitions in ``case``; a test holds it against the
brute force that the verifier counts.
"""

from __future__ import annotations

import dataclasses
import random

import numpy as np
from slicing_instances import chain, dag, sum_case

from isthmus.planning.slicing.case import Graph, Limit, Signal, SumCase

Floats = np.ndarray


def every_assignment(graph: Graph, m: int) -> Floats:
    """Return all ``m ** groups`` assignments, int64 ``[plans, n]``."""
    groups = graph.colocated
    digits = np.indices((m,) * len(groups)).reshape(len(groups), -1).T
    found = np.empty((len(digits), len(graph.names)), dtype=np.int64)
    for column, members in enumerate(groups):
        found[:, list(members)] = digits[:, [column]]
    return found


def sums(graph: Graph, plans: Floats, cost: Floats, fixed: Floats, per_size: Floats) -> Floats:
    """Return what each plan costs, float64 ``[plans]``."""
    total = cost[np.arange(len(graph.names)), plans].sum(axis=1)
    for signal in graph.signals:
        source = plans[:, signal.producer]
        for e in range(len(fixed)):
            sent = (plans[:, list(signal.consumers)] == e).any(axis=1) & (source != e)
            pays = fixed[source, e] + (signal.size * per_size[source, e] if signal.size else 0.0)
            total = total + np.where(sent, pays, 0.0)
    return total


def best(case: SumCase) -> float:
    """Return the least sum of any allowed plan, inf when there is none."""
    graph, m = case.graph, len(case.devices)
    plans = every_assignment(graph, m)
    value = sums(graph, plans, case.cost, case.link_fixed, case.link_per_size)
    allowed = np.isfinite(value)
    for d in range(m):
        used = ((plans == d) * case.memory_bytes).sum(axis=1)
        allowed &= used <= case.capacity_bytes[d] * (1 + 1e-9)
    for u, v in graph.edges if case.monotone else ():
        allowed &= plans[:, u] <= plans[:, v]
    for limit in case.limits:
        spent = sums(graph, plans, limit.cost, limit.link_fixed, limit.link_per_size)
        allowed &= spent <= limit.most * (1 + 1e-9)
    return float(value[allowed].min(initial=np.inf))


def random_graph(dice: random.Random, n: int) -> Graph:
    """A chain, a graph with skips, or one with two co-located operators."""
    kind = dice.choice(["chain", "dag", "grouped"])
    return chain(dice, n) if kind == "chain" else dag(dice, n, grouped=kind == "grouped")


def tiers(dice: random.Random, *, tight: bool = False, monotone: bool = True) -> SumCase:
    """Two to four ordered tiers with additive links; now and then an operator that a tier cannot run."""
    m = dice.choice([2, 2, 3, 3, 4])
    n = dice.randint(2, {2: 8, 3: 6, 4: 5}[m])
    case = sum_case(dice, random_graph(dice, n), m, monotone=monotone, tight=tight)
    if dice.random() < 0.3:
        case.cost[dice.randrange(n), dice.randrange(m)] = np.inf
    if dice.random() < 0.3:
        graph = dataclasses.replace(case.graph, order=((0, n - 1),))
        case = dataclasses.replace(case, graph=graph)
    return case


def any_links(dice: random.Random, *, tight: bool = False) -> SumCase:
    """Two to four devices, each pair with links of its own each way, some of which cannot send."""
    case = tiers(dice, tight=tight, monotone=False)
    m = len(case.devices)
    fixed = np.array([[dice.choice([0.0, dice.uniform(0, 2)]) for _ in range(m)] for _ in range(m)])
    per_size = np.array([[dice.uniform(0, 2) for _ in range(m)] for _ in range(m)])
    for _ in range(dice.choice([0, 0, 1, 2])):
        fixed[dice.randrange(m), dice.randrange(m)] = np.inf
    return dataclasses.replace(case, link_fixed=fixed, link_per_size=per_size)


def with_limit(dice: random.Random, case: SumCase, at: float) -> SumCase:
    """Add a price that the case's cheapest plan may pass: ``at`` between the least price and that of the best."""
    n, m = case.cost.shape
    price = np.array([[dice.uniform(0, 5) * (1 + k) for k in range(m)] for _ in range(n)])
    link = np.array([[0.0 if a == b else dice.uniform(0, 1) for b in range(m)] for a in range(m)])
    limit = Limit("price", "USD", np.inf, price, np.zeros((m, m)), link)
    plans = every_assignment(case.graph, m)
    spent = sums(case.graph, plans, price, limit.link_fixed, link)
    value = sums(case.graph, plans, case.cost, case.link_fixed, case.link_per_size)
    if not np.isfinite(value).any():
        return case
    low, high = float(spent[np.isfinite(value)].min()), float(spent[value.argmin()])
    return dataclasses.replace(case, limits=(dataclasses.replace(limit, most=low + at * (high - low)),))


def line(sizes: list[float]) -> Graph:
    """Operators in a row with these sizes between them."""
    names = tuple(f"op{v}" for v in range(len(sizes) + 1))
    return Graph(names, tuple(Signal(v, (v + 1,), size) for v, size in enumerate(sizes)))
