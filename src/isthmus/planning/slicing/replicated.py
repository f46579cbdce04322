"""Throughput with replicated slices: ranges of operators, each on a number of devices of each kind.

A device that takes a share z of the samples is busy for z times the seconds a that it would need for
all: computing, sending and receiving alike. So the slice is as fast as it can be when the shares are
proportional to 1 / a, all replicas end at once, and the load is ``1 / sum(1 / a)``. What a replica pays for a
transfer depends on which kinds of devices stand on the other side, never on their shares; a dynamic
programme over ranges, counts of devices and the kinds beside a slice is therefore exact for a chain.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from typing import TYPE_CHECKING

from isthmus.errors import InvalidCase, NoPlan
from isthmus.planning.slicing import verify
from isthmus.planning.slicing.kinds import Kinds, kinds
from isthmus.planning.slicing.replica import INSTANT, divisible_bound, shares
from isthmus.planning.slicing.replicated_land import Land
from isthmus.planning.slicing.solution import Solution, Stage
from isthmus.planning.slicing.step_bound import Used
from isthmus.planning.slicing.step_case import cut_positions, is_chain

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from isthmus.planning.slicing.case import LoadCase

    Floats = NDArray[np.float64]

METHOD = "dynamic programme over ranges and counts of replicas"
MOST_ROWS = 400_000
"""Positions times units times pairs of neighbours; beyond that, fewer devices or cuts are planned with."""
MOST_CELLS = 40_000_000
Hop = tuple[int, int, int]
"""A slice: first position, the one behind its last, unit."""


def solve(case: LoadCase) -> Solution:
    """Return the best plan of ranges with replicas; exact for a chain. The load is in seconds a sample.

    Raises:
        InvalidCase: the graph has a backward pass, which runs through ranges in reverse.
        NoPlan: no ranges fit into the devices' memory.
    """
    begun = time.perf_counter()
    if any(case.graph.backward):
        raise InvalidCase(
            "replicated slices are planned for forward passes; the graph has backward operators"
        )
    land, given_up = _affordable(case)
    hops = _Programme(land).run()
    if not hops:
        raise NoPlan("no ranges of operators fit the devices' memory and what each may run")
    stages = _stages(land, hops)
    value = max(verify.loads(case, stages).values())
    if not is_chain(case.graph):
        given_up.append("the network is no chain, and only ranges of one topological order were searched")
    elif not case.contiguous:
        given_up.append("slices that are not contiguous were not searched")
    bound = min(value, divisible_bound(case)) if given_up else value
    return Solution(
        stages,
        value,
        bound,
        METHOD,
        exact=bound >= value * (1 - 1e-9),
        seconds=time.perf_counter() - begun,
        given_up="; ".join(given_up),
    )


class _Programme:
    """``best[u, v][p, c]``: the least load of slices that end at position p and use the devices counted by c,
    the last of which looks like side u, when the next will look like side v."""

    def __init__(self, land: Land) -> None:
        import numpy as np

        self.land, self.used, size = land, Used(land.kinds.counts), len(land.positions)
        self.best: dict[tuple[int, int], Floats] = {
            (u, v): np.full((size, self.used.size), np.inf)
            for u, v in itertools.product(range(len(land.sides)), repeat=2)
        }

    def run(self) -> list[Hop]:
        """Return the best slices, from the first; none when there are none."""
        import numpy as np

        last = len(self.land.positions) - 1
        for side in range(1, len(self.land.sides)):
            self.best[0, side][0, 0] = 0.0
        for start in range(last):
            for (before, own), table in self.best.items():
                if own and np.isfinite(table[start]).any():
                    self._place(start, before, own, table[start])
        ends = {u: table[last] for (u, v), table in self.best.items() if not v and u}
        side = min(ends, key=lambda u: float(ends[u].min()))
        if not np.isfinite(ends[side].min()):
            return []
        return self._back(last, int(ends[side].argmin()), side, 0)

    def _place(self, start: int, before: int, own: int, values: Floats) -> None:
        """Put every unit of a side behind what ends at a position."""
        import numpy as np

        for unit, numbers in enumerate(self.land.units):
            if self.land.side_of[unit] != own:
                continue
            free = np.flatnonzero(self.used.room(numbers) & np.isfinite(values))
            then = free + self.used.number(numbers)
            for behind in range(len(self.land.sides)) if len(free) else ():
                ends = slice(start + 1, -1) if behind else slice(-1, None)
                load = self.land.load(unit, before, behind)[start, ends]
                table = self.best[own, behind][ends]
                table[:, then] = np.minimum(table[:, then], np.maximum(load[:, None], values[free]))

    def _back(self, end: int, used: int, own: int, behind: int) -> list[Hop]:
        """Find again the slices that made a value: the same numbers give the same maximum."""
        import numpy as np

        if not end:
            return []
        value = self.best[own, behind][end, used]
        for unit, numbers in enumerate(self.land.units):
            left = used - self.used.number(numbers)
            if self.land.side_of[unit] != own or left < 0 or not self.used.room(numbers)[left]:
                continue
            for before in range(len(self.land.sides)):
                load = self.land.load(unit, before, behind)[:end, end]
                made = np.maximum(load, self.best[before, own][:end, left])
                if (made == value).any():
                    start = int(np.flatnonzero(made == value)[0])
                    return [*self._back(start, left, before, own), (start, end, unit)]
        return []


def _stages(land: Land, hops: list[Hop]) -> tuple[Stage, ...]:
    """Name the devices, and divide the samples so that the replicas of a slice end at once."""
    free = [list(members) for members in land.kinds.members]
    order, stages = land.case.graph.topological, []
    for start, end, unit in hops:
        chosen = [free[t].pop(0) for t, count in enumerate(land.units[unit]) for _ in range(count)]
        even = (1 / len(chosen),) * len(chosen)
        stages.append(Stage(order[land.positions[start] : land.positions[end]], tuple(chosen), even))
    busy = verify.loads(land.case, stages)
    return tuple(
        dataclasses.replace(stage, shares=shares([1 / max(busy[d], INSTANT) for d in stage.devices]))
        for stage in stages
    )


def _affordable(case: LoadCase) -> tuple[Land, list[str]]:
    """Lay the case out, with fewer devices or cuts where all are too many; say so."""
    import numpy as np

    found = kinds(case)
    land, given_up = Land(case, found, cut_positions(case.graph)), []
    barred = np.isinf(case.seconds).sum(axis=0)
    speed = np.where(np.isfinite(case.seconds), case.seconds, 0.0).sum(axis=0)
    ranked = sorted(range(len(case.devices)), key=lambda d: (barred[d], speed[d], d))
    kept = len(ranked)
    while kept > 1 and not _cheap(land, min(len(land.positions), 50)):
        kept -= 1
        land = Land(case, _only(found, set(ranked[:kept])), land.positions)
    if kept < len(ranked):
        given_up.append(f"of {len(ranked)} devices, the {kept} fastest alone were planned with")
    most = len(land.positions)
    while most > 2 and not _cheap(land, most):
        most = most * 9 // 10
    if most < len(land.positions):
        given_up.append(f"of {len(land.positions)} places for a cut, {most} were searched")
        chosen = np.linspace(0, len(land.positions) - 1, most).round().astype(int)
        land = Land(case, land.kinds, tuple(land.positions[k] for k in sorted(set(chosen.tolist()))))
    return land, given_up


def _cheap(land: Land, positions: int) -> bool:
    states = Used(land.kinds.counts).size
    if states > MOST_ROWS or states * 2 ** len(land.kinds.counts) > MOST_ROWS:
        return False
    pairs = len(land.units) * len(land.sides) ** 2
    return (
        positions * pairs <= MOST_ROWS
        and positions**2 * pairs <= MOST_CELLS
        and positions * states * len(land.sides) ** 2 <= MOST_CELLS
    )


def _only(found: Kinds, chosen: set[int]) -> Kinds:
    """Leave devices out; the pace between two of one kind stays what it was."""
    import numpy as np

    kept: Sequence[int] = [t for t, members in enumerate(found.members) if chosen & set(members)]
    members = tuple(tuple(d for d in found.members[t] if d in chosen) for t in kept)
    pick = np.ix_(kept, kept)
    return Kinds(members, found.send[pick], found.receive[pick])
