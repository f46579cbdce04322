"""A start for the mixed-integer model: moves of single blocks that lower the sum and what memory is overrun."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from isthmus.planning.slicing.arrays import broken, score

if TYPE_CHECKING:
    from isthmus.planning.slicing.arrays import Ints
    from isthmus.planning.slicing.case import Floats, SumCase

OVERRUN = 10.0
"""What using twice a device's memory costs a start, in multiples of the start's own sum."""


def improve(case: SumCase, given: Ints | None, *, seconds: float) -> Ints | None:
    """Return the best assignment of blocks, int64 ``[blocks]``, that breaks no limit; None when none was met.

    Starts are ``given``, which may break memory and limits, each block on its cheapest device, devices filled one
    after another, and each device that can run everything.
    """
    import numpy as np

    starts = [] if given is None else [given]
    starts += [case.graph.arrays.sum_blocks(case.cost).argmin(axis=1), _in_order(case)]
    starts += [
        np.full(case.graph.arrays.blocks, d) for d in np.flatnonzero(np.isfinite(case.cost.sum(axis=0)))
    ]
    until, found = time.perf_counter() + seconds, list(starts)
    if len(case.devices) > 1:
        found += [_Descent(case, start).run(until) for start in starts if _value(case, start) < np.inf]
    kept = [entry for entry in found if _value(case, entry) < np.inf and not _forbidden(case, entry)]
    return min(kept, key=lambda entry: _value(case, entry), default=None)


def _forbidden(case: SumCase, device_of: Ints) -> bool:
    first, second = device_of[case.graph.arrays.edges.T]
    return bool(broken(case, device_of)) or (case.monotone and bool((first > second).any()))


def _in_order(case: SumCase) -> Ints:
    """Fill one device after another with blocks in topological order: few transfers, and memory is kept.

    Devices come in the order of their tiers, or else the quickest first.
    """
    import numpy as np

    graph, m = case.graph.arrays, len(case.devices)
    cost, memory = graph.sum_blocks(case.cost), graph.sum_blocks(case.memory_bytes)
    ceiling = float(np.max(cost, where=np.isfinite(cost), initial=1.0)) * len(cost)
    devices = (
        np.arange(m) if case.monotone else np.argsort(np.minimum(cost, ceiling).sum(axis=0), kind="stable")
    )
    room, found, at = case.capacity_bytes.astype(np.float64), np.zeros(graph.blocks, dtype=np.int64), 0
    for block in dict.fromkeys(graph.block_of[list(case.graph.topological)].tolist()):
        while at < m - 1 and memory[block] > room[devices[at]]:
            at += 1
        open_ = devices[at:] if case.monotone else devices
        fits = open_[np.isfinite(cost[block, open_]) & (memory[block] <= room[open_])]
        found[block] = devices[at] if devices[at] in fits or not len(fits) else fits[0]
        room[found[block]] -= memory[block]
    return found


def _value(case: SumCase, device_of: Ints) -> float:
    return score(case.graph, device_of, case.cost, case.link_fixed, case.link_per_size)


def _without_own(links: Floats) -> list[list[float]]:
    found: list[list[float]] = links.tolist()
    for d, row in enumerate(found):
        row[d] = 0.0
    return found


class _Descent:
    """Plain lists: a move touches few numbers."""

    def __init__(self, case: SumCase, start: Ints) -> None:
        import numpy as np

        graph = case.graph.arrays
        self.device_of, self.devices = start.tolist(), range(len(case.devices))
        self.cost = graph.sum_blocks(case.cost).tolist()
        self.memory = graph.sum_blocks(case.memory_bytes).tolist()
        self.room = case.capacity_bytes.tolist()
        self.used = np.bincount(start, self.memory, minlength=len(self.room)).tolist()
        self.price = OVERRUN * max(_value(case, start), 1e-300)
        self.fixed, self.per_size = _without_own(case.link_fixed), _without_own(case.link_per_size)
        self.size = graph.size.tolist()
        self.readers: list[list[int]] = [[] for _ in graph.size]
        self.touched: list[set[int]] = [set() for _ in range(graph.blocks)]
        self.producer = graph.producer.tolist()
        for s, reader in zip(graph.signal.tolist(), graph.consumer.tolist(), strict=True):
            self.readers[s].append(reader)
            self.touched[reader].add(s)
            self.touched[self.producer[s]].add(s)
        self.before: list[list[int]] = [[] for _ in range(graph.blocks)]
        self.after: list[list[int]] = [[] for _ in range(graph.blocks)]
        for u, v in graph.edges.tolist() if case.monotone else ():
            self.after[u].append(v)
            self.before[v].append(u)

    def run(self, until: float) -> Ints:
        """Move blocks to where they cost least, until nothing gains or time is up."""
        import numpy as np

        moved = True
        while moved and time.perf_counter() < until:
            moved = False
            for block in range(len(self.device_of)):
                if time.perf_counter() > until:
                    break
                here = self.device_of[block]
                there = min(self._options(block, here), default=(0.0, here))[1]
                if there != here:
                    self._place(block, there)
                    moved = True
        return np.array(self.device_of)

    def _options(self, block: int, here: int) -> Iterator[tuple[float, int]]:
        """Yield each better device with what it gains, negative."""
        now = self._pays(block)
        first = max((self.device_of[u] for u in self.before[block]), default=0)
        last = min((self.device_of[v] for v in self.after[block]), default=len(self.room) - 1)
        for there in self.devices:
            if there != here and first <= there <= last:
                self._place(block, there)
                gain = self._pays(block) - now
                self._place(block, here)
                if gain < -1e-12 * abs(now):
                    yield gain, there

    def _place(self, block: int, device: int) -> None:
        self.used[self.device_of[block]] -= self.memory[block]
        self.used[device] += self.memory[block]
        self.device_of[block] = device

    def _pays(self, block: int) -> float:
        """Return the part of the sum that the block's device decides."""
        total = self.cost[block][self.device_of[block]]
        for s in self.touched[block]:
            source = self.device_of[self.producer[s]]
            fixed, per_size, size = self.fixed[source], self.per_size[source], self.size[s]
            for d in {self.device_of[c] for c in self.readers[s]}:
                total += fixed[d] + (size * per_size[d] if size else 0.0)
        over = (self._overrun(d) for d in self.devices)
        return float(total + self.price * sum(over))

    def _overrun(self, device: int) -> float:
        room, used = self.room[device], self.used[device]
        return 0.0 if used <= room else (used - room) / room if room else used
