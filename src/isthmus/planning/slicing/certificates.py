"""Checks of what proves a bound, without a solver and without the methods' code; whole numbers throughout.

A flow proves that every cut of its network has at least its value. What is left is that no plan pays less
than its cut: every arc is charged here, in plain loops, to the block, the pair of blocks or the signal that
it stands for, and none may be charged more than it pays in the case.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from isthmus.errors import PlanUnsound
from isthmus.planning.slicing.case import SumCase
from isthmus.planning.slicing.solution import CutCertificate

INF = float("inf")
Arc = tuple[int, int, int]
"""Tier of the tail, tier of the head, capacity."""


def check_cut(case: SumCase, certificate: CutCertificate) -> float:
    """Return the bound that a certificate proves: no plan costs less, with limits or without.

    Raises:
        PlanUnsound: the flow is none, or an arc's capacity is more than what the case lets it stand for.
    """
    if math.frexp(certificate.scale)[0] != 0.5:
        raise PlanUnsound(f"needs a scale that is a power of two; the certificate's is {certificate.scale}")
    value = _flow_value(certificate)
    network = _Charges(case, certificate.scale)
    for (tail, head), capacity in zip(certificate.arcs.tolist(), certificate.capacity.tolist(), strict=True):
        if capacity:
            network.charge(tail, head, capacity)
    network.check_pairs()
    network.check_signals()
    bound = (value + sum(network.left_over(b) for b in range(len(network.blocks)))) / certificate.scale
    return min(bound, network.single)


def _flow_value(certificate: CutCertificate) -> int:
    """Return the flow's value; it keeps every capacity, and what enters a node leaves it."""
    balance: dict[int, int] = defaultdict(int)
    rows = (certificate.arcs.tolist(), certificate.capacity.tolist(), certificate.flow.tolist())
    for (tail, head), capacity, flow in zip(*rows, strict=True):
        if not 0 <= flow <= capacity:
            raise PlanUnsound(f"arc {tail} -> {head} carries {flow}; its capacity is {capacity}")
        balance[tail] -= flow
        balance[head] += flow
    for node, excess in balance.items():
        if node > 1 and excess:
            raise PlanUnsound(f"node {node} of the flow keeps {excess}; what enters has to leave")
    return balance[1]


@dataclass
class _Charges:
    case: SumCase
    scale: float
    blocks: tuple[tuple[int, ...], ...] = field(init=False)

    def __post_init__(self) -> None:
        case, graph = self.case, self.case.graph
        self.m, self.blocks = len(case.devices), graph.colocated
        of = {v: b for b, members in enumerate(self.blocks) for v in members}
        columns = [sum(float(case.cost[v, d]) for v in of) for d in range(self.m)]
        # Any plan that costs more than one device by itself is no better than that: it need not be cut.
        self.single = min(columns)
        self.placed: list[list[int]] = [[0] * self.m for _ in self.blocks]
        self.pairs: dict[tuple[int, int], list[Arc]] = defaultdict(list)
        self.single_reader: dict[tuple[int, int], list[float]] = defaultdict(list)
        self.shared: list[tuple[int, set[int], float]] = []
        for signal in graph.signals:
            readers = {of[c] for c in signal.consumers} - {of[signal.producer]}
            if len(readers) == 1:
                self.single_reader[of[signal.producer], readers.pop()].append(signal.size)
            elif readers:
                self.shared.append((of[signal.producer], readers, signal.size))
        self.sent: dict[tuple[int, bool], list[Arc]] = defaultdict(list)
        self.edges = {(of[u], of[v]) for u, v in graph.edges}

    def units(self, cost: float) -> float:
        """Whole units, rounded down; a power of two scales without rounding."""
        return INF if cost == INF else math.floor(cost * self.scale)

    def node(self, number: int) -> tuple[str, int, int]:
        """Return what a node stands for: ``block``, ``any`` or ``all`` of a signal's readers, which, and its tier."""
        each, rest = self.m - 1, number - 2
        if rest < len(self.blocks) * each:
            return "block", rest // each, rest % each + 1
        rest -= len(self.blocks) * each
        kinds = ["any"] if self.case.monotone else ["all", "any"]
        size = each * len(self.shared)
        if not size or rest >= size * len(kinds):
            raise PlanUnsound(f"node {number} of the flow stands for nothing in the case")
        return kinds[rest // size], rest % size % len(self.shared), rest % size // len(self.shared) + 1

    def charge(self, tail: int, head: int, capacity: int) -> None:
        """Note who pays an arc when it is cut."""
        if tail == 1 or head == 0 or tail == head:
            raise PlanUnsound(f"arc {tail} -> {head} leaves the sink, or enters the source or its own tail")
        start = ("block", -1, 0) if tail == 0 else self.node(tail)
        end = ("block", -1, self.m) if head == 1 else self.node(head)
        block = start[1] if head == 1 else end[1]
        if (start[0], end[0]) == ("block", "block"):
            if -1 in (start[1], end[1]) or start[1] == end[1]:
                if block < 0:
                    raise PlanUnsound("an arc leads from the source to the sink")
                for d in range(start[2], end[2]):
                    self.placed[block][d] += capacity
            else:
                self.pairs[start[1], end[1]].append((start[2], end[2], capacity))
        elif not self._follows(start, end):
            self._send(start, end, capacity)

    def _follows(self, start: tuple[str, int, int], end: tuple[str, int, int]) -> bool:
        """Whether no plan cuts the arc: from a reader to its ``any``, or from ``all`` to a reader."""
        if start[0] == "block" and end[0] == "any":
            return start[1] in self.shared[end[1]][1] and start[2] >= end[2]
        if start[0] == "all" and end[0] == "block":
            return end[1] in self.shared[start[1]][1] and start[2] >= end[2]
        return False

    def _send(self, start: tuple[str, int, int], end: tuple[str, int, int], capacity: int) -> None:
        if start[0] == "any" and end[0] == "block" and end[1] == self.shared[start[1]][0]:
            self.sent[start[1], True].append((start[2], end[2], capacity))
        elif start[0] == "block" and end[0] == "all" and start[1] == self.shared[end[1]][0]:
            self.sent[end[1], False].append((start[2], end[2], capacity))
        else:
            raise PlanUnsound(f"an arc from {start} to {end} stands for nothing in the case")

    def left_over(self, block: int) -> int:
        """Return what the block pays beyond its arcs on the tier where that is least."""
        found: list[int] = []
        for d in range(self.m):
            costs = [float(self.case.cost[v, d]) for v in self.blocks[block]]
            if sum(costs) <= self.single * (1 + 1e-12) and sum(costs) < INF:
                found.append(sum(int(self.units(cost)) for cost in costs) - self.placed[block][d])
        if not found:
            raise PlanUnsound("a block may run nowhere: there is no bound to prove")
        return min(found)

    def transfer(self, source: int, target: int, size: float) -> float:
        """Return what a signal pays from a device to another, in units."""
        if source == target:
            return 0
        crossing = size * float(self.case.link_per_size[source, target]) if size else 0.0
        return self.units(float(self.case.link_fixed[source, target]) + crossing)

    def check_pairs(self) -> None:
        """No pair of blocks is charged more than the signals between the two, for any tiers of both."""
        for p, q in {(min(pair), max(pair)) for pair in self.pairs}:
            there, back = self.pairs.get((p, q), []), self.pairs.get((q, p), [])
            for d, e in self._tiers():
                charged = sum(c for i, j, c in there if d >= i and e < j)
                charged += sum(c for i, j, c in back if e >= i and d < j)
                if charged > self._pays(p, q, d, e) + self._pays(q, p, e, d):
                    raise PlanUnsound(f"arcs between blocks {p} and {q} cost more than what passes there")

    def _pays(self, p: int, q: int, d: int, e: int) -> float:
        if self.case.monotone and d > e and (p, q) in self.edges:
            return INF
        return sum(self.transfer(d, e, size) for size in self.single_reader.get((p, q), ()))

    def check_signals(self) -> None:
        """No signal is charged more than to reach the latest (or the earliest) tier of its readers."""
        for (k, any_reader), arcs in self.sent.items():
            for d, e in self._tiers():
                if any_reader:
                    charged = sum(c for i, j, c in arcs if e >= i and d < j)
                else:
                    charged = sum(c for i, j, c in arcs if d >= i and e < j)
                along = d < e if any_reader else d > e
                if charged > (self.transfer(d, e, self.shared[k][2]) if along else 0):
                    raise PlanUnsound(f"the arcs of signal {k} cost more than to send it")

    def _tiers(self) -> Iterator[tuple[int, int]]:
        return ((d, e) for d in range(self.m) for e in range(self.m))
