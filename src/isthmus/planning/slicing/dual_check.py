"""A check of multipliers that prove a bound on a sum, without a solver and without the methods' code; whole numbers.

A plan pays for blocks, for what passes between pairs of them, and for signals that several blocks read. Multipliers
move costs between these parts, and charge for what is used of memory and limits: for every plan that keeps its
constraints the parts together are at most what it costs. So the sum of each part's least is a bound, whatever the
multipliers are. Costs are rounded down to units of a power of two, and what is taken off is rounded up.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from typing import TYPE_CHECKING

from isthmus.errors import PlanUnsound
from isthmus.planning.slicing.verify import TOLERANCE

if TYPE_CHECKING:
    from isthmus.planning.slicing.case import Floats, Limit, SumCase
    from isthmus.planning.slicing.solution import DualCertificate

INF = float("inf")
BITS = 60
"""The largest cost has about so many; a unit is far below what floats tell apart in a sum."""


def check_dual(case: SumCase, certificate: DualCertificate) -> float:
    """Return the bound that a certificate proves: no plan that keeps memory and limits costs less.

    Raises:
        PlanUnsound: multipliers that are none of the case, or that prove less than the certificate claims.
    """
    found = proven(case, certificate)
    if found < certificate.bound - TOLERANCE * abs(certificate.bound):
        raise PlanUnsound(f"a certificate claims {certificate.bound!r}; its multipliers prove {found!r}")
    return found


def proven(case: SumCase, certificate: DualCertificate) -> float:
    """Return the bound that a certificate's multipliers prove, whatever it claims.

    Raises:
        PlanUnsound: multipliers of another shape, not finite, or negative where they must not be.
    """
    return _Parts(case, certificate).bound()


class _Parts:
    def __init__(self, case: SumCase, given: DualCertificate) -> None:
        self.case, self.m, graph = case, len(case.devices), case.graph
        self.blocks = graph.colocated
        self.of = {v: b for b, members in enumerate(self.blocks) for v in members}
        self.single: dict[tuple[int, int], list[float]] = defaultdict(list)
        self.shared: list[tuple[int, list[int], float]] = []
        for signal in graph.signals:
            source = self.of[signal.producer]
            readers = sorted({self.of[c] for c in signal.consumers} - {source})
            if len(readers) == 1:
                self.single[source, readers[0]].append(signal.size)
            elif readers:
                self.shared.append((source, readers, signal.size))
        self.edges = sorted({(self.of[u], self.of[v]) for u, v in graph.edges if self.of[u] != self.of[v]})
        self.pairs = sorted({*self.single, *((p, r) for p, readers, _ in self.shared for r in readers)})
        self.known = set(self.edges)
        self._check(given)
        top = max((float(c) for c in case.cost.ravel() if c < INF), default=0.0)
        self.scale = 2.0 ** (BITS - math.frexp(top or 1.0)[1])
        self.margins = [[[self._down(x) for x in row] for row in both] for both in given.margins.tolist()]
        self.sent = [[[self._down(x) for x in row] for row in one] for one in given.sent.tolist()]
        self.order = [[self._down(x) for x in row] for row in given.order.tolist()]
        self.memory, self.limits = given.memory.tolist(), given.limits.tolist()
        self.alone = [[self._alone(members, d) for d in range(self.m)] for members in self.blocks]

    def _check(self, given: DualCertificate) -> None:
        """Everything has the case's shape, is finite, and not negative where that is needed."""
        import numpy as np

        sent = sum(len(readers) for _, readers, _ in self.shared)
        edges = len(self.edges) if self.case.monotone else 0
        for what, values, shape, signed in (
            ("margins", given.margins, (len(self.pairs), 2, self.m), True),
            ("sent", given.sent, (sent, self.m, self.m), False),
            ("order", given.order, (edges, self.m - 1), False),
            ("memory", given.memory, (self.m,), False),
            ("limits", given.limits, (len(self.case.limits),), False),
        ):
            if values.shape != shape:
                raise PlanUnsound(
                    f"a certificate's {what} need the shape {shape} of the case; it is {values.shape}"
                )
            if not np.isfinite(values).all() or (not signed and (values < 0).any()):
                raise PlanUnsound(
                    f"a certificate's {what} must be finite{'' if signed else ' and at least 0'}"
                )

    def _down(self, value: float) -> int:
        """Whole units at most a finite value; a power of two scales without rounding."""
        return math.floor(value * self.scale)

    def _product(self, a: float, b: float) -> int:
        """Whole units at most the product, whose float may be above it by half a step."""
        return math.floor(math.nextafter(a * b, -INF) * self.scale) if a and b else 0

    def bound(self) -> float:
        """Return the sum of what each part costs at least."""
        total = sum(min(row) for row in self._block_rows())
        at = 0
        told: dict[tuple[int, int], list[list[list[int]]]] = defaultdict(list)
        for source, readers, size in self.shared:
            charged = self.sent[at : at + len(readers)]
            at += len(readers)
            for reader, charge in zip(readers, charged, strict=True):
                told[source, reader].append(charge)
            total += self._signal(size, charged)
        sizes: dict[tuple[int, int], list[float]] = defaultdict(list)
        for source, readers, size in self.shared:
            for reader in readers:
                sizes[source, reader].append(size)
        for k, pair in enumerate(self.pairs):
            total += self._pair(pair, self.margins[k], told[pair], sizes[pair])
        if total == INF:
            return INF
        return math.nextafter((total - self._allowed()) / self.scale, -INF)

    def _allowed(self) -> int:
        """Return what memory and limits may be charged at most, rounded up."""
        given = [*zip(self.memory, self.case.capacity_bytes.tolist(), strict=True)]
        given += [(price, limit.most) for price, limit in zip(self.limits, self.case.limits, strict=True)]
        total = 0
        for price, most in given:
            if price and most == INF:
                raise PlanUnsound("a certificate charges for what has no limit")
            if price:
                total -= self._product(-price, math.nextafter(most * (1 + TOLERANCE), INF))
        return total

    def _block_rows(self) -> list[list[float]]:
        """Return what each block costs on each device, with all that multipliers move there."""
        rows = [list(row) for row in self.alone]
        for (u, v), (first, second) in zip(self.pairs, self.margins, strict=True):
            for d in range(self.m):
                rows[u][d] += first[d]
                rows[v][d] += second[d]
        for (u, v), prices in zip(self.edges, self.order, strict=self.case.monotone):
            for d, k in itertools.product(range(self.m), range(1, self.m)):
                if d >= k:
                    rows[u][d] += prices[k - 1]
                    rows[v][d] -= prices[k - 1]
        return rows

    def _alone(self, members: tuple[int, ...], d: int) -> float:
        total: float = 0
        for v in members:
            cost = float(self.case.cost[v, d])
            if cost == INF:
                return INF
            total += self._down(cost) + self._product(self.memory[d], float(self.case.memory_bytes[v]))
            for price, limit in zip(self.limits, self.case.limits, strict=True):
                if price and limit.cost[v, d] == INF:
                    return INF
                total += self._product(price, float(limit.cost[v, d])) if price else 0
        return total

    def _transfer(self, d: int, e: int, size: float) -> float:
        """Return what a signal pays from a device to another, and what limits are charged for it."""
        total = self._moved(self.case.link_fixed, self.case.link_per_size, d, e, size)
        found: float = INF if total == INF else self._down(total)
        for price, limit in zip(self.limits, self.case.limits, strict=True):
            found += self._charged(price, limit, d, e, size) if price else 0
        return found

    def _charged(self, price: float, limit: Limit, d: int, e: int, size: float) -> float:
        moved = self._moved(limit.link_fixed, limit.link_per_size, d, e, size)
        return INF if moved == INF else self._product(price, moved)

    def _moved(self, fixed: Floats, per_size: Floats, d: int, e: int, size: float) -> float:
        """Return the cost of one transfer, at most what the verifier counts."""
        crossing = size * float(per_size[d, e]) if size else 0.0
        total = float(fixed[d, e]) + crossing
        # Two roundings, of the product and of the sum.
        return math.nextafter(math.nextafter(total, -INF), -INF) if 0 < total < INF else total

    def _signal(self, size: float, charged: list[list[list[int]]]) -> float:
        """Return what a signal of several readers costs at least, less what these are told to pay for it."""
        options: list[float] = []
        for d in range(self.m):
            total: float = 0
            for e in range(self.m):
                if e != d:
                    total += min(0, self._transfer(d, e, size) - sum(charge[d][e] for charge in charged))
            options.append(total)
        return min(options)

    def _pair(
        self,
        pair: tuple[int, int],
        margins: list[list[int]],
        told: list[list[list[int]]],
        sizes: list[float],
    ) -> float:
        """Return what passes between two blocks costs at least, over the two devices they run on."""
        ordered = self.case.monotone and pair in self.known
        found = INF
        for d, e in itertools.product(range(self.m), repeat=2):
            if (ordered and d > e) or INF in (self.alone[pair[0]][d], self.alone[pair[1]][e]):
                continue
            pays: float = -margins[0][d] - margins[1][e]
            if d != e:
                pays += sum(self._transfer(d, e, size) for size in self.single.get(pair, ()))
                pays += sum(charge[d][e] for charge in told)
                if any(self._transfer(d, e, size) == INF for size in sizes):
                    continue
            found = min(found, pays)
        return found
