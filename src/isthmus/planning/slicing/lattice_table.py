"""The table of ``lattice``: what the kernel reads of a case, and how its answer becomes stages."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from isthmus.errors import NoPlan
from isthmus.planning.slicing import verify
from isthmus.planning.slicing.blocks import Blocks
from isthmus.planning.slicing.kinds import Kinds
from isthmus.planning.slicing.solution import Stage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from isthmus.planning.slicing.case import Floats, LoadCase

    Words = NDArray[np.uint64]
    Ints = NDArray[np.int64]
    Crossing = tuple[Ints, Ints, Floats]
    Signals = tuple[Ints, Floats, Ints, Ints]


ROWS, ROWS_SECONDS = 64, 0.1
"""Rows that are filled at first before the clock is looked at; then as many as take about so long."""


class LateError(Exception):
    """The time is up, and the table is not filled."""


class Table:
    """What the kernel reads of a case, and how its answer becomes stages."""

    def __init__(self, case: LoadCase, blocks: Blocks, found: Kinds) -> None:
        import numpy as np

        self.case, self.blocks, self.kinds = case, blocks, found
        first = [members[0] for members in found.members]
        columns = blocks.seconds[:, first]
        self.barred = ~np.isfinite(columns)
        self.seconds: Floats = np.where(self.barred, 0.0, columns)
        self.least: Floats = np.min(columns, axis=1)
        self.room: Floats = case.capacity_bytes[first] * (1 + verify.TOLERANCE)
        out, into = found.pace_out(), found.pace_in()
        if out is None or into is None:
            raise NoPlan("needs transfers whose cost does not depend on the other side")
        self.out, self.into = out, into
        self.first = np.cumsum([0, *map(len, blocks.consumers)], dtype=np.int64)
        self.readers = np.array(list(itertools.chain(*blocks.consumers)), dtype=np.int64)

    def best(
        self, ideals: Sequence[int], limit: float, until: float
    ) -> tuple[float, tuple[Stage, ...]] | None:
        """Return the least largest load of plans along these ideals that is at most ``limit``, and its stages.

        Raises:
            LateError: ``time.perf_counter`` passed ``until``.
        """
        import numpy as np

        from isthmus.planning.slicing import lattice_kernel as kernel

        if not np.isfinite(self.least).all():
            return None
        begun = time.perf_counter()
        signals = (self.blocks.producer, self.blocks.size, self.first, self.readers)
        limit = min(limit, self._top())
        bits, holds = self._sorted(ideals)
        leaving, entering = (kernel.crossing(bits, *signals, inward) for inward in (False, True))
        turned = self._fewer_last(holds, leaving[2], entering[2], limit)
        if turned:
            # What is left of an ideal is one of the reversed order, and its slices are the same.
            whole = (1 << len(self.blocks.members)) - 1
            bits, holds = self._sorted([whole ^ ideal for ideal in ideals])
            leaving, entering = (kernel.crossing(bits, *signals, inward) for inward in (False, True))
        value, before, kind = self._filled(bits, holds, (leaving, entering, signals), limit, (begun, until))
        if not np.isfinite(value[-1, -1]):
            return None
        slices = self._slices(bits, before, kind)
        return float(value[-1, -1]), tuple(self._stages(slices if turned else slices[::-1]))

    def _filled(
        self,
        bits: Words,
        holds: Floats,
        crossing: tuple[Crossing, Crossing, Signals],
        limit: float,
        time_: tuple[float, float],
    ) -> tuple[Floats, Ints, Ints]:
        """Fill the table within the time from one point to another; see the kernel for what is returned."""
        import numpy as np

        from isthmus.planning.slicing import lattice_kernel as kernel

        begun, until = time_
        filled = self._empty(len(bits))
        given = (
            bits,
            holds @ self.least,
            holds @ self.seconds,
            (holds @ self.barred).round().astype(np.int64),
            holds @ self.blocks.memory_bytes,
            *crossing,
            self.out,
            self.into,
            self.room,
            np.array(self.kinds.counts, dtype=np.int64),
            self.case.overlap,
            limit,
        )
        kernel.best_slices(*given, *filled, 1, 1)
        # The first call of an installation compiles for seconds: a small case shall be exact then, too.
        until += time.perf_counter() - begun
        start, rows = 1, ROWS
        while start < len(bits):
            begun = time.perf_counter()
            if begun > until:
                raise LateError
            kernel.best_slices(*given, *filled, start, min(start + rows, len(bits)))
            start += rows
            rows = rows * 2 if time.perf_counter() - begun < ROWS_SECONDS else max(rows // 2, 1)
        return filled[:3]

    def _empty(self, ideals: int) -> tuple[Floats, Ints, Ints, Floats]:
        """Return the table with its first row filled: nothing costs nothing."""
        import numpy as np

        cells = int(np.prod([count + 1 for count in self.kinds.counts]))
        value, reach = np.full((ideals, cells), np.inf), np.full(ideals, np.inf)
        value[0, :], reach[0] = 0.0, 0.0
        return value, np.full((ideals, cells), -1), np.full((ideals, cells), -1), reach

    def _top(self) -> float:
        """Return a load that no plan passes."""
        pace = max(*self.out, *self.into, 0.0)
        return float(max(self.seconds.sum(), 0.0) + 2 * self.blocks.size.sum() * pace)

    def _sorted(self, ideals: Sequence[int]) -> tuple[Words, Floats]:
        """Return bit sets and what they hold, by the least seconds that they take."""
        import numpy as np

        bits, holds = _bits(ideals, len(self.blocks.members))
        order = np.lexsort((holds.sum(axis=1), holds @ self.least))
        return bits[order], holds[order]

    def _fewer_last(self, holds: Floats, leaves: Floats, enters: Floats, limit: float) -> bool:
        """Whether fewer ideals can stand before a last slice within the limit than behind a first one."""
        import numpy as np

        counts = []
        done, barred, memory = holds @ self.seconds, holds @ self.barred, holds @ self.blocks.memory_bytes
        for first in (True, False):
            parts = [entry if first else entry[-1] - entry for entry in (done, barred, memory)]
            sends, receives = (leaves, enters) if first else (enters, leaves)
            moved = [sends[:, None] * self.out, receives[:, None] * self.into]
            load = np.maximum.reduce([parts[0], *moved]) if self.case.overlap else parts[0] + sum(moved)
            fits = (parts[1] < 0.5) & (parts[2][:, None] <= self.room) & (load <= limit * (1 + 1e-12))
            counts.append(int(fits.any(axis=1).sum()))
        return counts[1] < counts[0]

    def _slices(self, bits: Words, before: Ints, kind: Ints) -> list[tuple[list[int], int]]:
        """Walk back from the whole network: each slice's blocks and kind, the last filled first."""
        import numpy as np

        steps = np.cumprod([1, *(count + 1 for count in self.kinds.counts)])
        outer, state = bits.shape[0] - 1, before.shape[1] - 1
        found: list[tuple[list[int], int]] = []
        while outer:
            inner, t = int(before[outer, state]), int(kind[outer, state])
            inside = np.unpackbits((bits[outer] & ~bits[inner]).view(np.uint8), bitorder="little")
            found.append(([int(k) for k in np.flatnonzero(inside)], t))
            outer, state = inner, state - int(steps[t])
        return found

    def _stages(self, slices: Iterable[tuple[list[int], int]]) -> Iterable[Stage]:
        """Give each slice a device of its kind that is still free."""
        free = [list(members) for members in self.kinds.members]
        for blocks, t in slices:
            operators = sorted(v for k in blocks for v in self.blocks.members[k])
            yield Stage(tuple(operators), (free[t].pop(0),))


def _bits(ideals: Sequence[int], blocks: int) -> tuple[Words, Floats]:
    """Return bit sets as words ``[M, W]`` and as float64 ``[M, b]`` of zeros and ones."""
    import numpy as np

    width = (blocks + 63) // 64 * 8
    raw = np.frombuffer(b"".join(ideal.to_bytes(width, "little") for ideal in ideals), dtype=np.uint8)
    packed = raw.reshape(len(ideals), width)
    holds = np.unpackbits(packed, axis=1, bitorder="little")[:, :blocks].astype(np.float64)
    return packed.view(np.uint64).copy(), holds
