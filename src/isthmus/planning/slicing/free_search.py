"""Slices that may lie anywhere: rounds of annealing, narrowing and a mixed-integer programme.

The better the plan that is known, the less a better one can do (:mod:`narrow`), and the smaller the programme that
HiGHS has to close. So a round that finds a much better plan early begins anew with it. While HiGHS works on one core,
annealing and then CP-SAT work on another: each of the two solvers closes cases that the other does not in its time.
"""

from __future__ import annotations

import math
import threading
import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any

from isthmus.planning.slicing import anneal, free_mip, verify
from isthmus.planning.slicing.free_constraints import Constraints, Found
from isthmus.planning.slicing.narrow import Narrowed, narrow

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from isthmus.planning.slicing.arrays import Ints
    from isthmus.planning.slicing.blocks import Blocks
    from isthmus.planning.slicing.case import LoadCase
    from isthmus.planning.slicing.mip import Outcome
    from isthmus.planning.slicing.solution import Stage

ROUNDS = 6
"""Of annealing, before each programme."""
ANNEALING_SHARE = 0.15
"""Of the time beside a programme; CP-SAT has the rest."""
WORTH = 0.99
"""A plan whose value is less than this part of the one that a programme began with is worth a new one."""
RESERVE = 0.01
"""Of the time, for what the solver does after its limit."""
RESTART_SHARE = 0.5
"""Of the time; later, the tree that a programme has grown is worth more."""
MARGIN = 1e-7
"""Relative; HiGHS's bound is a sum of floats, of rows that may be missed by 1e-9, and is rounded down by it."""
CLOSED = 1e-9
MOST_ROUNDS = 100_000
MOST_ENTRIES = 500_000
"""Of a programme; of a larger one not even the relaxation is solved in a minute, and it is not built."""


def search(
    case: LoadCase, blocks: Blocks, first: tuple[Stage, ...], *, floor: float, until: float, workers: int = 2
) -> Found:
    """Return the best plan found, from ``first`` on, and a bound. ``until``: by ``time.perf_counter``."""
    return _Search(case, blocks, first, floor, until, workers).run()


class _Search:
    """``device``: int64 ``[b]``, the best assignment so far; ``value``: its largest load; ``first``: where it began."""

    def __init__(
        self,
        case: LoadCase,
        blocks: Blocks,
        first: tuple[Stage, ...],
        floor: float,
        until: float,
        workers: int,
    ) -> None:
        self.case, self.blocks, self.workers = case, blocks, workers
        self.device = _by_block(blocks, first)
        self.first, self.value = self.device, verify.objective(case, first)
        self.bound = floor
        self.turn = 0
        now = time.perf_counter()
        self.until = until - RESERVE * (until - now)
        self.restart_until = now + RESTART_SHARE * (until - now)

    def run(self) -> Found:
        """Go on until the bound is reached, or the time is over."""
        import numpy as np

        entries = free_mip.size(self.case, self.blocks)
        if entries > MOST_ENTRIES:
            everything = Narrowed(self.blocks, np.arange(len(self.device)), {}, 0.0)
            self._anneal(everything, MOST_ROUNDS, self._ended)
            given_up = f"a programme of {entries:,} entries was not built; the plan is by annealing"
            return self._found(closed=self._closed(), given_up=given_up)
        closed = self._closed()
        while not closed:
            narrowed = self._narrowed()
            if self._closed():
                break
            began = self.value
            closed = self._programme(narrowed)
            if self._late(began):
                break
        return self._found(closed=closed or self._closed())

    def _found(self, *, closed: bool, given_up: str = "") -> Found:
        return Found(self.blocks.stages(self.device), min(self.bound, self.value), closed, given_up)

    def _closed(self) -> bool:
        return self.value <= self.bound * (1 + CLOSED)

    def _ended(self, value: float) -> bool:
        return value <= self.bound * (1 + CLOSED) or time.perf_counter() >= self.until

    def _late(self, began: float) -> bool:
        now = time.perf_counter()
        return now >= self.until or not (self.value < WORTH * began and now < self.restart_until)

    def _narrowed(self) -> Narrowed:
        """Anneal and narrow in turns while that finds much better plans."""
        began = math.inf
        while True:
            narrowed = narrow(self.case, self.blocks, self.value)
            self.bound = max(self.bound, min(narrowed.bound, self.value))
            if self._closed() or self._late(began):
                return narrowed
            began = self.value
            self._anneal(narrowed, ROUNDS, self._ended)

    def _anneal(self, narrowed: Narrowed, rounds: int, stop: Callable[[float], bool]) -> None:
        _, device = anneal.improve(
            self.case,
            narrowed.blocks,
            self._starts(narrowed),
            rounds=rounds,
            first_round=self.turn,
            stop=stop,
        )
        self.turn += rounds
        self._offer(narrowed.blocks.stages(device))

    def _starts(self, narrowed: Narrowed) -> list[Ints]:
        """Return the best assignment, and the first one where it is still allowed: another valley."""
        import numpy as np

        best, first = _projected(narrowed, self.device), _projected(narrowed, self.first)
        allowed = np.isfinite(narrowed.blocks.seconds[np.arange(len(first)), first]).all()
        whole = np.array_equal(first[narrowed.label], self.first)
        return [first, best] if allowed and whole else [best]

    def _offer(self, stages: tuple[Stage, ...]) -> None:
        """Keep a better plan."""
        value = verify.objective(self.case, stages)
        if value < self.value and not verify.violations(self.case, stages):
            self.value, self.device = value, _by_block(self.blocks, stages)

    def _programme(self, narrowed: Narrowed) -> bool:
        """Solve what is left, with both solvers where there are two workers; return whether one searched it all."""
        began, ended = self.value, threading.Event()
        model = free_mip.build(self.case, narrowed, began)

        def stop(cost: float, bound: float) -> bool:
            value = min(cost * began, self.value)
            better = value < WORTH * began and time.perf_counter() < self.restart_until
            return ended.is_set() or better or value <= bound * began * (1 + CLOSED)

        with ThreadPoolExecutor(2) as threads:
            start = model.start(_projected(narrowed, self.device))
            running = threads.submit(
                model.programme.solve, self.until - time.perf_counter(), start, stop=stop
            )
            try:
                closed = self.workers > 1 and self._beside(narrowed, model, running, threads)
                if closed:
                    ended.set()
                outcome = running.result()
            finally:
                ended.set()
        device = model.read(outcome.values)
        if device is not None:
            self._offer(narrowed.blocks.stages(device))
        proven = outcome.bound * (1 - MARGIN) * began if outcome.feasible else began
        self.bound = max(self.bound, min(proven, began))
        return closed or outcome.finished or self.value <= outcome.bound * began * (1 + CLOSED)

    def _beside(
        self,
        narrowed: Narrowed,
        model: free_mip.Model,
        running: Future[Outcome],
        threads: ThreadPoolExecutor,
    ) -> bool:
        """Anneal, then run CP-SAT, until HiGHS has ended or CP-SAT has; return whether that one has closed the case."""
        began, now = model.value, time.perf_counter()
        annealed = now + ANNEALING_SHARE * (self.until - now)
        while not running.done() and time.perf_counter() < annealed:
            self._anneal(narrowed, 1, self._ended)
        if running.done():
            return False
        device = model.ordered(_projected(narrowed, self.device))
        rules = Constraints(self.case, narrowed.blocks, narrowed.blocks.stages(device), self.bound)
        rules.narrow(narrowed.parted, model.heavy)
        proving = threads.submit(rules.solve, max(self.until - time.perf_counter(), 0.0), 1)
        either: list[Future[Any]] = [running, proving]
        try:
            wait(either, return_when=FIRST_COMPLETED)
        finally:
            while not proving.done():
                # Asked again, as a search that has not begun yet does not hear it.
                rules.stop()
                wait([proving], timeout=0.05)
        found = proving.result()
        if found.stages is not None:
            self._offer(found.stages)
        self.bound = max(self.bound, min(found.bound, began))
        return found.closed


def _by_block(blocks: Blocks, stages: tuple[Stage, ...]) -> Ints:
    import numpy as np

    device_of = {v: stage.devices[0] for stage in stages for v in stage.operators}
    return np.array([device_of[members[0]] for members in blocks.members], dtype=np.int64)


def _projected(narrowed: Narrowed, device: Ints) -> Ints:
    """Return an assignment of blocks as one of narrowed blocks."""
    import numpy as np

    found = np.zeros(len(narrowed.blocks.members), dtype=np.int64)
    found[narrowed.label] = device
    return found
