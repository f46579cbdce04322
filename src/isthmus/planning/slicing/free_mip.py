"""Slices that may lie anywhere as a mixed-integer programme, for HiGHS: what a device pays for a transfer must not
depend on the other side.

A block runs on one device; a device sends a signal when it makes it and some reader is elsewhere, and receives one
that it reads and does not make. Loads are counted as parts of a known plan's value, so that rows have sides near 1.
Devices that are alike could swap their slices: among the heaviest blocks, one is on the k-th of them only if an
earlier one is on the (k - 1)-th (column orbitope: Kaibel and Pfetsch, "Packing and partitioning orbitopes", 2008).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from isthmus.errors import InvalidCase
from isthmus.planning.slicing.kinds import kinds, paces
from isthmus.planning.slicing.mip import INF, Programme

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from isthmus.planning.slicing.arrays import Ints
    from isthmus.planning.slicing.blocks import Blocks
    from isthmus.planning.slicing.case import Floats, LoadCase
    from isthmus.planning.slicing.narrow import Narrowed

    Flags = NDArray[np.bool_]

HALF_SLACK = 5e-10
"""Relative; half of what the verifier lets memory pass its limit, the other half is the solver's."""


@dataclass(frozen=True, eq=False)
class Model:
    """Columns, -1 where there is none: ``block``: int64 ``[b, m]``; ``sent``, ``received``: int64 ``[s, m]``; ``top``:
    the largest load, as a part of ``value``. ``heavy``: blocks by which alike devices are told apart. ``out``,
    ``into``: float64 ``[m]``, what a device pays for a unit of size."""

    programme: Programme
    case: LoadCase
    narrowed: Narrowed
    value: float
    block: Ints
    sent: Ints
    received: Ints
    top: int
    heavy: Ints
    out: Floats
    into: Floats

    def start(self, device: Ints) -> Floats:
        """Return the columns' values for an assignment of blocks, int64 ``[b]``; alike devices swap to fit."""
        import numpy as np

        device = self.ordered(device)
        blocks, (b, m) = self.narrowed.blocks, self.block.shape
        found = np.zeros(self.programme.columns)
        found[self.block[np.arange(b), device]] = 1
        for s, readers in enumerate(blocks.consumers):
            source = device[blocks.producer[s]]
            reading = np.isin(np.arange(m), device[list(readers)])
            reading[source] = False
            received = self.received[s, reading]
            found[received[received >= 0]] = 1
            if reading.any() and self.sent[s, source] >= 0:
                found[self.sent[s, source]] = 1
        found[self.top] = self._top(found)
        return found

    def read(self, values: Floats | None) -> Ints | None:
        """Return the assignment of blocks that columns' values stand for."""
        import numpy as np

        if values is None:
            return None
        return np.asarray(np.argmax(np.where(self.block >= 0, values[self.block], -1.0), axis=1), np.int64)

    def ordered(self, device: Ints) -> Ints:
        """Swap alike devices so that the heavy blocks come to them in order."""
        import numpy as np

        swapped = np.arange(self.block.shape[1])
        seen = list(dict.fromkeys([*device[self.heavy].tolist(), *range(len(swapped))]))
        for members in kinds(self.case).members:
            swapped[[d for d in seen if d in members]] = members
        return swapped[device]

    def _top(self, found: Floats) -> float:
        """Return the largest load of columns' values, as a part of ``value``."""
        return max(
            float(sum(factor @ found[column] for column, factor in part))
            for d in range(self.block.shape[1])
            for part in _loads(self, d)
        )


def size(case: LoadCase, blocks: Blocks) -> int:
    """Return about how many entries a model would have."""
    return len(case.devices) * (
        2 * len(blocks.members) + 2 * len(blocks.size) + 6 * sum(map(len, blocks.consumers))
    )


def build(case: LoadCase, narrowed: Narrowed, value: float) -> Model:
    """Return the model of a narrowed case; ``value``: of a known plan.

    Raises:
        InvalidCase: what a device pays for a transfer depends on the other side.
    """
    import numpy as np

    blocks, programme = narrowed.blocks, Programme()
    allowed = blocks.seconds < INF
    block = np.full(allowed.shape, -1, dtype=np.int64)
    block[allowed] = programme.add_columns(0.0, int(allowed.sum()), upper=1.0, whole=True)
    given = paces(case)
    if given is None:
        raise InvalidCase("the programme needs transfers whose cost does not depend on the other side")
    out, into = given
    paying = [np.outer(blocks.size, pace) > 0 for pace in (out, into)]
    # Who is never there neither sends nor receives.
    paying[0] &= allowed[blocks.producer]
    read = [allowed[list(r)].any(axis=0) for r in blocks.consumers]
    paying[1] &= np.array(read, dtype=np.bool_).reshape(paying[1].shape)
    sent, received = (np.full(paying[0].shape, -1, dtype=np.int64) for _ in range(2))
    sent[paying[0]] = programme.add_columns(0.0, int(paying[0].sum()), upper=1.0)
    received[paying[1]] = programme.add_columns(0.0, int(paying[1].sum()), upper=1.0)
    top = int(programme.add_columns(1.0, 1)[0])
    model = Model(
        programme, case, narrowed, value, block, sent, received, top, _heavy(case, narrowed), out, into
    )
    once = programme.add_rows(len(block), 1.0, 1.0)
    programme.fill(once[:, None], block, 1.0)
    _add_transfers(model)
    _add_loads(model)
    _add_memory(model)
    _add_parted(model)
    _add_order(model)
    return model


def _heavy(case: LoadCase, narrowed: Narrowed) -> Ints:
    """Return the blocks of most seconds, two for each device and two more."""
    import numpy as np

    seconds = narrowed.blocks.seconds
    weight = np.where(np.isfinite(seconds), seconds, 0.0).min(axis=1)
    return np.argsort(-weight, kind="stable")[: 2 * len(case.devices) + 2].astype(np.int64)


def _add_transfers(model: Model) -> None:
    """Sent: at least made here less read here, by each reader; received: at least read here less made here."""
    import numpy as np

    blocks, programme = model.narrowed.blocks, model.programme
    signal = np.repeat(np.arange(len(blocks.size)), [len(readers) for readers in blocks.consumers])
    reader = np.array(list(itertools.chain(*blocks.consumers)), dtype=np.int64)
    made, read = model.block[blocks.producer[signal]], model.block[reader]
    for column, here, there in ((model.sent[signal], made, read), (model.received[signal], read, made)):
        # Where the block cannot be, nothing is to be paid for it.
        k, d = np.nonzero((column >= 0) & (here >= 0))
        row = programme.add_rows(len(k), 0.0, INF)
        for part, factor in ((column, 1.0), (here, -1.0), (there, 1.0)):
            programme.fill(row, part[k, d], factor)


def _loads(model: Model, d: int) -> list[list[tuple[Ints, Floats]]]:
    """Return what device d does, in parts of ``value``: columns and factors, of each sum that is a load."""
    import numpy as np

    blocks, case = model.narrowed.blocks, model.case
    found = []
    for column, cost in (
        (model.block[:, d], blocks.seconds[:, d]),
        (model.sent[:, d], blocks.size * model.out[d]),
        (model.received[:, d], blocks.size * model.into[d]),
    ):
        there = np.flatnonzero(column >= 0)
        found.append((column[there], cost[there] / model.value))
    return [[entry] for entry in found] if case.overlap else [found]


def _add_loads(model: Model) -> None:
    for d in range(model.block.shape[1]):
        for part in _loads(model, d):
            row = model.programme.add_rows(1, -INF, 0.0)
            for column, factor in part:
                model.programme.fill(row, column, factor)
            model.programme.fill(row, model.top, -1.0)


def _add_memory(model: Model) -> None:
    import numpy as np

    needs = model.narrowed.blocks.memory_bytes
    for d, room in enumerate(model.case.capacity_bytes):
        if np.isfinite(room):
            unit = float(room) if room > 0 else 1.0
            row = model.programme.add_rows(1, -INF, (1.0 + HALF_SLACK) * float(room) / unit)
            model.programme.fill(row, model.block[:, d], needs / unit)


def _add_parted(model: Model) -> None:
    """A reader here, and its signal made where it cannot come from: not both."""
    import numpy as np

    kind_of = np.zeros(model.block.shape[1], dtype=np.int64)
    for t, members in enumerate(kinds(model.case).members):
        kind_of[list(members)] = t
    elsewhere = ~np.eye(len(kind_of), dtype=bool)
    for (p, r), possible in model.narrowed.parted.items():
        barred = ~possible[np.ix_(kind_of, kind_of)] & elsewhere & (model.block[p] >= 0)[:, None]
        for e in np.flatnonzero(barred.any(axis=0) & (model.block[r] >= 0)):
            row = model.programme.add_rows(1, -INF, 1.0)
            model.programme.fill(row, model.block[p, barred[:, e]], 1.0)
            model.programme.fill(row, model.block[r, e], 1.0)


def _add_order(model: Model) -> None:
    """Of devices that are alike, the k-th has a heavy block only after the one before has."""
    for members in kinds(model.case).members:
        for before, d in itertools.pairwise(members):
            for i, b in enumerate(model.heavy):
                if model.block[b, d] >= 0:
                    row = model.programme.add_rows(1, -INF, 0.0)
                    model.programme.fill(row, model.block[b, d], 1.0)
                    model.programme.fill(row, model.block[model.heavy[:i], before], -1.0)
