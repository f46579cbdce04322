"""A sharper bound on 1F1B steps, from what two neighbours cost each other.

A stage may hold one micro-batch more than the next. So a pass goes round between two neighbours: a backward
pass on the later one, its gradient, a backward pass on the earlier one, the forward pass that this lets
in, its activations, a forward pass on the later one, and the backward pass after that, which is of the
micro-batch two further on. With forward f and backward b, F and B of the later one, which holds q of M
micro-batches, x and y for the transfers, ``P`` and ``R`` as in :mod:`step_bound`, ``a = (M - q) // 2``::

    P + F + B + R + a (f + b + x + y + F + B) + (M - 1 - 2 a) B + (M - q - 2 a) F

is the length of a path. Where transfers are slow, two neighbours thus share what one of them could do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from isthmus.planning.slicing.step_bound import Used, sides, stage_bound
from isthmus.planning.slicing.step_terrain import Terrain

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

MOST_TABLES = 20_000
MOST_NUMBERS = 40_000_000
"""Counts times units, and times pairs of positions; beyond that the table is not made."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """``table[t][c, u][i, p]``: no plan takes less in which t stages use the devices counted by c and the first
    of them runs ``[i, p)`` on unit u; inf where it takes ``limit`` or more. ``root``: no plan takes less."""

    table: tuple[dict[tuple[int, int], Floats], ...]
    root: float


def affordable(land: Terrain) -> bool:
    """Whether the table is small enough to be made."""
    tables = Used(land.counts).size * len(land.units) ** 2
    return (
        not land.case.replicated
        and tables <= MOST_TABLES
        and tables * len(land.positions) ** 2 <= MOST_NUMBERS
    )


def pairs(land: Terrain, limit: float) -> Pairs:
    """Make the table, for plans that take less than ``limit``, from most stages to one."""
    import numpy as np

    used, size = Used(land.counts), len(land.positions)
    taken = used.digits.sum(axis=1)
    table: list[dict[tuple[int, int], Floats]] = [{}]
    for behind in range(land.stages, 0, -1):
        fresh: dict[tuple[int, int], Floats] = {}
        own = [stage_bound(land, v, behind) for v in range(len(land.units))]
        for later, numbers in enumerate(land.units):
            joins = [_Join(land, v, later, behind) for v in range(len(land.units))]
            for count in np.flatnonzero((taken == behind) & (used.digits >= np.array(numbers)).all(axis=1)):
                found = np.full((size, size), np.inf)
                found[0] = 0.0
                for v, more in enumerate(land.units):
                    if behind < land.stages and used.room(more)[count]:
                        before = np.maximum(own[v], table[-1][int(count) + used.number(more), v])
                        joins[v].lower(found, np.where(before < limit, before, np.inf))
                fresh[int(count), later] = found
        table.append(fresh)
    first = [
        np.maximum(stage_bound(land, u, 0)[:, -1], table[-1][used.number(n), u][:, -1])
        for u, n in enumerate(land.units)
    ]
    return Pairs(tuple(reversed([*table, {}])), float(np.min(first)))


class _Join:
    """An earlier unit before a later one, which has ``behind - 1`` stages behind it."""

    def __init__(self, land: Terrain, earlier: int, later: int, behind: int) -> None:
        case, many = land.case, land.case.microbatches
        self.binds = many > behind  # else the later stage holds as many as the earlier one
        if not self.binds:
            return
        near, around = sides(land, earlier), sides(land, later)
        turns = (many - behind) // 2
        seconds = land.passes[earlier][0] + land.passes[earlier][1]
        self.first = _times(turns, seconds + near.busy_ahead[None, :] + near.busy_back[:, None])
        forward = land.passes[later][0] + around.busy_ahead[None, :]
        backward = land.passes[later][1] + around.busy_back[:, None]
        links = land.ahead[earlier, later] + land.ahead[later, earlier]
        across = around.out_before + around.back_before + _times(turns if case.overlap else 0, links)
        rest = _times(many - 1 - 2 * turns, backward) + _times(many - behind - 2 * turns, forward)
        self.second = across[:, None] + (turns + 1) * (forward + backward) + around.behind[None, :] + rest

    def lower(self, found: Floats, before: Floats) -> None:
        """Take the least over the earlier stage's start: in place, ``[P, P]`` by the later stage's range."""
        import numpy as np

        for at in range(1, len(found) - 1):
            starts = np.flatnonzero(np.isfinite(before[:at, at]))
            if not len(starts):
                continue
            if not self.binds:
                found[at] = np.minimum(found[at], before[starts, at].min())
                continue
            ends = at + 1 + np.flatnonzero(np.isfinite(self.second[at, at + 1 :]))
            together = self.first[starts, at][:, None] + self.second[at, ends]
            least = np.maximum(before[starts, at][:, None], together).min(axis=0)
            found[at, ends] = np.minimum(found[at, ends], least)


def _times(count: int, seconds: Floats) -> Floats:
    """Multiply, so that nothing times infinity is nothing."""
    import numpy as np

    return count * seconds if count else np.zeros_like(seconds)
