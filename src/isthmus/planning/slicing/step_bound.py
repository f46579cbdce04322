"""Proven lower bounds on a 1F1B step, and a DP of them over ranges and counts of devices.

A step is the longest path through passes and transfers that wait for each other, so that the length of
any path is a bound. For stage k with forward f and backward b, q micro-batches in flight, ``P`` seconds
for what lies before it (there and back) and ``R`` for what lies behind (there and back), M micro-batches:

- it is busy for M (f + b), and idle at least R - (q - 1) f between its first forward and first backward
  pass; if M > q also R - (q - 1) b between its last forward and last backward pass, a disjoint time:
  ``P + M (f + b) + max(0, R - (q - 1) f) + max(0, R - (q - 1) b)``;
- micro-batch i + q enters after i has left: ``P + (a + 1) (f + b + R) + (M - 1 - a q) max(f, b)`` with
  ``a = (M - 1) // q``;
- a link that takes x for a micro-batch: ``P + f + b + R + (M - 1) x``.

With no transfers and stages that are all alike the first is the step itself, (S + M - 1) (f + b). With
uneven stages it is not: before a stage's first backward pass come q forward passes of the slowest
earlier stage. So bounds prune, and a walk through all passes gives the value.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from isthmus.planning.slicing.step_terrain import Terrain

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Sides:
    """What lies outside a stage at the least, by position ``[P]``: seconds there and back ``before`` it and
    ``behind`` it, of it those on the way out and back, and what the stage itself pays for sending when it
    is busy meanwhile. 0 where nothing is crossed."""

    out_before: Floats
    back_before: Floats
    behind: Floats
    link: Floats
    busy_ahead: Floats
    busy_back: Floats


def sides(land: Terrain, unit: int) -> Sides:
    """Return the least that any neighbours leave a unit's stage."""
    import numpy as np

    forward, backward = land.least
    if len(land.positions) == 2 or land.stages == 1:
        zero = np.zeros(len(land.positions))
        return Sides(forward, backward, (forward + backward)[-1] - forward - backward, zero, zero, zero)
    inner = np.zeros(len(land.positions))
    inner[1:-1] = 1.0

    def least(seconds: Floats) -> Floats:
        found: Floats = np.where(inner > 0, seconds.min(axis=0), 0.0)
        return found

    to, back = land.ahead[unit], land.ahead[:, unit]
    comes, returns, goes, answers = least(back), least(to), least(to), least(back)
    rest = (forward + backward)[-1] - forward - backward
    if land.case.overlap:
        zero = np.zeros(len(inner))
        link = np.maximum(goes, answers)
        return Sides(forward + comes, backward + returns, rest + goes + answers, link, zero, zero)
    return Sides(forward + comes, backward, rest + answers, np.zeros(len(inner)), goes, returns)


def stage_bound(land: Terrain, unit: int, later: int) -> Floats:
    """Return ``[P, P]``: no plan in which a stage runs this range on the unit, with so many stages behind
    it, takes less. inf where it cannot."""
    import numpy as np

    around, many = sides(land, unit), land.case.microbatches
    forward = land.passes[unit][0] + around.busy_ahead[None, :]
    backward = land.passes[unit][1] + around.busy_back[:, None]
    allowed = land.fits(unit, later) & np.isfinite(forward + backward)
    forward, backward = np.where(allowed, forward, 0.0), np.where(allowed, backward, 0.0)
    if not later:
        allowed[:, :-1] = False
    else:
        allowed[:, -1] = False
    out, behind = around.out_before[:, None], around.behind[None, :]
    leave = np.maximum(around.back_before[:, None], np.where(allowed, land.finish(unit), 0.0))
    held = min(many, later + 1)
    wait_first = np.maximum(0.0, behind - (held - 1) * forward)
    wait_last = np.maximum(0.0, behind - (held - 1) * backward)
    waits = wait_first + wait_last if many > held else np.maximum(wait_first, wait_last)
    busy = many * (forward + backward) + waits
    rounds = (many - 1) // held
    trip = forward + backward + behind
    turns = (rounds + 1) * trip + (many - 1 - rounds * held) * np.maximum(forward, backward)
    carried = trip + (many - 1) * around.link[None, :] if many > 1 else trip
    bound: Floats = out + leave + np.maximum(np.maximum(busy, turns), carried)
    return np.where(allowed & np.isfinite(bound), bound, np.inf)


@dataclass(frozen=True, eq=False)
class Used:
    """Counts of devices that are used, as numbers in a mixed radix."""

    counts: tuple[int, ...]

    @functools.cached_property
    def scale(self) -> tuple[int, ...]:
        """What one device of each kind adds."""
        return tuple(
            itertools.accumulate((count + 1 for count in self.counts[:-1]), lambda a, b: a * b, initial=1)
        )

    @functools.cached_property
    def size(self) -> int:
        """How many there are."""
        found = 1
        for count in self.counts:
            found *= count + 1
        return found

    def number(self, unit: tuple[int, ...]) -> int:
        """Return a unit's number; numbers add as units do."""
        return sum(count * scale for count, scale in zip(unit, self.scale, strict=True))

    @functools.cached_property
    def digits(self) -> NDArray[np.int64]:
        """``[size, kinds]``."""
        import numpy as np

        found: NDArray[np.int64] = (
            np.arange(self.size)[:, None] // np.array(self.scale) % (np.array(self.counts) + 1)
        )
        return found

    def room(self, unit: tuple[int, ...]) -> NDArray[np.bool_]:
        """Return ``[size]``: whether a unit is still free."""
        import numpy as np

        found: NDArray[np.bool_] = (self.digits + np.array(unit) <= np.array(self.counts)).all(axis=1)
        return found


@dataclass(frozen=True, eq=False)
class Floor:
    """``table[t][p, c]``: no plan takes less in which t stages, which use the devices counted by c, begin at
    position p; float64, inf where what lies before p cannot be placed on the devices left."""

    land: Terrain
    used: Used
    table: tuple[Floats, ...]

    @property
    def root(self) -> float:
        """No plan takes less."""
        return float(self.table[0][-1, 0])

    def first_plan(self) -> list[tuple[int, int, int]]:
        """Return a plan in which every stage's bound is at most :attr:`root`, from the last stage to the
        first: start, end (indices of positions) and unit."""
        import numpy as np

        end, used = len(self.land.positions) - 1, 0
        found: list[tuple[int, int, int]] = []
        while end:
            best: tuple[float, int, int] = (float("inf"), 0, 0)
            for unit, numbers in enumerate(self.land.units):
                if not self.used.room(numbers)[used]:
                    continue
                own = stage_bound(self.land, unit, len(found))[:, end]
                total = np.maximum(own, self.table[len(found) + 1][:, used + self.used.number(numbers)])
                start = int(total.argmin())
                best = min(best, (float(total[start]), start, unit))
            _, start, unit = best
            found.append((start, end, unit))
            end, used = start, used + self.used.number(self.land.units[unit])
        return found


def floor(land: Terrain) -> Floor:
    """Compute the table, from plans with most stages behind to none; P² numbers for each count and unit."""
    import numpy as np

    used, size = Used(land.counts), len(land.positions)
    done = np.full((size, used.size), np.inf)
    done[0] = 0.0
    table = [done]
    taken = used.digits.sum(axis=1)
    for later in range(land.stages - 1, -1, -1):
        fresh = np.full((size, used.size), np.inf)
        fresh[0] = 0.0
        alive = taken == later if not land.case.replicated else taken >= later
        for unit, numbers in enumerate(land.units):
            own = stage_bound(land, unit, later)
            for count in np.flatnonzero(alive & used.room(numbers)):
                through = np.maximum(own, table[-1][:, count + used.number(numbers)][:, None]).min(axis=0)
                fresh[1:, count] = np.minimum(fresh[1:, count], through[1:])
        table.append(fresh)
    return Floor(land, used, tuple(reversed(table)))
