"""A good contiguous plan without a proof, whatever the links and however many devices: an annealed order of devices.

Beyond the exact range (many kinds of devices, or transfers whose cost depends on both sides) the devices are put in an
order, and each takes the next blocks of a topological order as far as a load allows. Simulated annealing changes the
order, who takes part and how far each goes, until everything is taken; then the load is lowered. What a device pays
to send is counted at the pace to its successor while searching, and as it is when a plan is scored.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from isthmus.planning.slicing import verify
from isthmus.planning.slicing.orders import linear_orders

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from isthmus.planning.slicing.blocks import Blocks
    from isthmus.planning.slicing.case import Floats, LoadCase
    from isthmus.planning.slicing.ranges_kernel import Rows, Signals
    from isthmus.planning.slicing.solution import Stage

    Ints = NDArray[np.int64]

METHOD = "annealed order of devices"
TURNS = 800
"""Changes of one round; a few milliseconds to a few tenths of a second."""
ROUNDS_EACH = 4
"""Rounds without success after which a smaller step is tried."""
HALVINGS = 24
LEAST_SECONDS = 0.5
"""Of lowering; a first run of a new installation compiles for longer than some limits."""
STEPS = (0.05, 0.02, 0.008, 0.003, 0.001)
"""By how much a load is to be lowered next, relative."""


def improve(
    case: LoadCase,
    blocks: Blocks,
    *,
    seconds: float,
    goal: float = 0.0,
    orders: Sequence[tuple[int, ...]] = (),
) -> tuple[Stage, ...] | None:
    """Return the best contiguous plan found within about ``seconds``; ends early at the load ``goal``. None: none met.

    ``blocks``: of the case, contracted for contiguous plans. ``orders``: topological orders of them, along which ranges
    are looked for; without any, a few linear ones.
    """
    until = time.perf_counter() + seconds
    searches = [_Search(case, blocks, order) for order in dict.fromkeys(orders or linear_orders(blocks))]
    for search in searches:
        search.begin(until)
    found = [search for search in searches if search.stages is not None]
    if not found:
        return None
    best = min(found, key=lambda search: search.value)
    best.lower(max(until, time.perf_counter() + LEAST_SECONDS), goal)
    return best.stages


@dataclass
class _Search:
    """Along one topological ``order`` of the blocks."""

    case: LoadCase
    blocks: Blocks
    order: tuple[int, ...]
    stages: tuple[Stage, ...] | None = None
    value: float = float("inf")

    def __post_init__(self) -> None:
        import numpy as np

        case, order, room = self.case, list(self.order), self.case.capacity_bytes * (1 + verify.TOLERANCE)
        rows = self.blocks.seconds[order].copy(), self.blocks.memory_bytes[order].copy(), room
        self.rows: Rows = (
            *rows,
            case.send_seconds.astype(np.float64),
            case.receive_seconds.astype(np.float64),
        )
        self.signals = _signals(self.blocks, self.order)
        self.done = _done(np.min(self.rows[0], axis=1))
        self.devices, self.active = _near(case, self.rows), np.ones(len(case.devices), dtype=np.bool_)
        self.back = np.zeros(len(case.devices), dtype=np.int64)
        self.placed = np.zeros(len(order), dtype=np.int64)
        self.seed = 0

    def begin(self, until: float) -> None:
        """Find a plan of any load, and the least load of the first order of devices."""
        import numpy as np

        while not self._reach(np.inf):
            if time.perf_counter() > until or self.seed > 10 * ROUNDS_EACH:
                return
        low, high = 0.0, self.value
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            if self._fits(middle):
                high = middle
            else:
                low = middle

    def lower(self, until: float, goal: float) -> None:
        """Lower the load until time is up, or the smallest step fails."""
        for step in STEPS:
            failed = 0
            while failed < ROUNDS_EACH and self.value > goal:
                if time.perf_counter() > until:
                    return
                failed = 0 if self._reach(self.value * (1 - step)) else failed + 1

    def _fits(self, limit: float) -> bool:
        from isthmus.planning.slicing import ranges_kernel as kernel

        given = self.devices, self.active, self.back, limit, self.rows, self.signals
        if kernel.fill(*given, self.case.overlap, self.placed) < len(self.placed):
            return False
        self._keep()
        return True

    def _reach(self, limit: float) -> bool:
        """Look for a plan within a load in one round, from the last order of devices."""
        from isthmus.planning.slicing import ranges_kernel as kernel

        self.seed += 1
        devices, active, back = self.devices.copy(), self.active.copy(), self.back.copy()
        if not kernel.anneal(
            devices,
            active,
            back,
            limit,
            self.done,
            self.rows,
            self.signals,
            self.case.overlap,
            TURNS,
            self.seed,
            self.placed,
        ):
            return False
        value = self.value
        self.devices, self.active, self.back = devices, active, back
        self._keep()
        return self.value < value

    def _keep(self) -> None:
        device_of = self.placed.copy()
        device_of[list(self.order)] = self.placed
        stages = self.blocks.stages(device_of)
        value = verify.objective(self.case, stages)
        if value < self.value:
            self.stages, self.value = stages, value


def _done(least: Floats) -> Floats:
    """Return the part of the work before each place; of places that take next to nothing, still a part that counts.

    ``least``: float64 ``[b]``, seconds on the quickest device, inf where there is none.
    """
    import numpy as np

    known = np.isfinite(least)
    total = float(least[known].sum()) or 1.0
    parts = np.where(known, least, total) / total + 1e-6 / len(least)
    found: Floats = np.concatenate([[0.0], parts.cumsum() / parts.sum()])
    return found


def _signals(blocks: Blocks, order: tuple[int, ...]) -> Signals:
    """Return the signals by places of an order; see the kernel."""
    import numpy as np

    place = {b: k for k, b in enumerate(order)}
    count = len(order)
    made: list[list[int]] = [[] for _ in range(count)]
    read: list[list[tuple[int, int]]] = [[] for _ in range(count)]
    low, high = np.zeros((2, len(blocks.size)), dtype=np.int64)
    producer = np.array([place[int(b)] for b in blocks.producer], dtype=np.int64)
    for s, consumers in enumerate(blocks.consumers):
        places = sorted(place[b] for b in consumers)
        made[producer[s]].append(s)
        for before, at in zip([-1, *places], places, strict=False):
            read[at].append((s, before))
        low[s], high[s] = places[0], places[-1]
    reads = np.array([entry for row in read for entry in row], dtype=np.int64).reshape(-1, 2)
    return (
        np.cumsum([0, *map(len, made)], dtype=np.int64),
        np.array([s for row in made for s in row], dtype=np.int64),
        np.cumsum([0, *map(len, read)], dtype=np.int64),
        reads[:, 0].copy(),
        reads[:, 1].copy(),
        blocks.size,
        producer,
        low,
        high,
    )


def _near(case: LoadCase, rows: Rows) -> Ints:
    """Put the device that can begin first, and then always the quickest of those that are nearest to the last."""
    import numpy as np

    seconds = rows[0]
    work = np.where(np.isfinite(seconds), seconds, 0.0).sum(axis=0)
    pace = case.send_seconds + case.receive_seconds.T
    left = list(range(len(case.devices)))
    found = [min(left, key=lambda d: (float(seconds[0, d]), float(work[d]), d))]
    left.remove(found[0])
    while left:
        found.append(min(left, key=lambda d: (float(pace[found[-1], d]), float(work[d]), d)))
        left.remove(found[-1])
    return np.array(found, dtype=np.int64)
