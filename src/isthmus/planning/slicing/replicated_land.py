"""A replicated case laid out for search: what every range costs on every number of devices, at once."""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from isthmus.planning.slicing.kinds import Kinds
from isthmus.planning.slicing.replica import INSTANT

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from isthmus.planning.slicing.case import LoadCase

    Floats = NDArray[np.float64]

ROUNDING = 5e-10


@dataclass(frozen=True, eq=False)
class Land:
    """``positions``: places for a cut, P of them. Matrices ``[P, P]`` are by a range's first place and the one behind
    its last."""

    case: LoadCase
    kinds: Kinds
    positions: tuple[int, ...]

    @functools.cached_property
    def units(self) -> tuple[tuple[int, ...], ...]:
        every = itertools.product(*(range(count + 1) for count in self.kinds.counts))
        return tuple(unit for unit in every if any(unit))

    @functools.cached_property
    def sides(self) -> list[tuple[tuple[float, ...], tuple[float, ...]]]:
        """What each kind pays to receive from, and to send to, a neighbour; distinct. 0 is no neighbour."""
        nothing = (0.0,) * len(self.kinds.counts)
        return [(nothing, nothing), *sorted({self._side(unit) for unit in self.units})]

    @functools.cached_property
    def side_of(self) -> tuple[int, ...]:
        """Of each unit, as a neighbour."""
        index = {side: k + 1 for k, side in enumerate(self.sides[1:])}
        return tuple(index[self._side(unit)] for unit in self.units)

    def _side(self, unit: tuple[int, ...]) -> tuple[tuple[float, ...], tuple[float, ...]]:
        pace_in, pace_out = self.kinds.pace_in(), self.kinds.pace_out()
        used = [t for t, count in enumerate(unit) if count]
        receive = self.kinds.receive[used].max(axis=0) if pace_in is None else pace_in
        send = self.kinds.send[:, used].max(axis=1) if pace_out is None else pace_out
        return tuple(receive.tolist()), tuple(send.tolist())

    @functools.cached_property
    def sizes(self) -> tuple[Floats, Floats]:
        """What a range receives and sends, ``[P, P]``: each signal once."""
        import numpy as np

        place = {v: position for position, v in enumerate(self.case.graph.topological)}
        at = np.array(self.positions)
        comes, goes = np.zeros((2, len(at), len(at)))
        for signal in self.case.graph.signals:
            made, read = place[signal.producer], sorted(place[v] for v in signal.consumers)
            if not read:
                continue
            next_read = np.searchsorted(read, at)
            first = np.where(next_read < len(read), np.array([*read, len(place)])[next_read], len(place))
            comes += (
                signal.size * ((at > made) & (first < len(place)))[:, None] * (first[:, None] < at[None, :])
            )
            goes += signal.size * (at <= made)[:, None] * ((at > made) & (at <= read[-1]))[None, :]
        return comes, goes

    @functools.cached_property
    def computing(self) -> list[Floats]:
        """Of each kind, seconds of ranges, ``[P, P]``; inf where it may not run them or they do not fit."""
        import numpy as np

        order, at = list(self.case.graph.topological), np.array(self.positions)
        weights = np.concatenate([[0.0], self.case.memory_bytes[order].cumsum()])[at]
        found = []
        for members in self.kinds.members:
            each = self.case.seconds[order, members[0]]
            done = np.concatenate([[0.0], np.where(np.isfinite(each), each, 0.0).cumsum()])[at]
            barred = np.concatenate([[0], np.isinf(each).cumsum()])[at]
            allowed = (at[None, :] > at[:, None]) & (barred[None, :] == barred[:, None])
            room = float(self.case.capacity_bytes[members[0]]) * (1 + ROUNDING)
            allowed &= weights[None, :] - weights[:, None] <= room
            found.append(np.where(allowed, np.maximum(done[None, :] - done[:, None], 0.0), np.inf))
        return found

    @functools.cache  # noqa: B019 - lives as long as the search
    def load(self, unit: int, before: int, behind: int) -> Floats:
        """Return the load of every range on a unit between two sides, ``[P, P]``."""
        import numpy as np

        comes, goes = self.sizes
        receive, send = self.sides[before][0], self.sides[behind][1]
        rate, barred = np.zeros_like(comes), np.zeros(comes.shape, dtype=bool)
        for t, count in enumerate(self.units[unit]):
            if count:
                moved = [
                    np.where(comes > 0, comes, 0.0) * receive[t],
                    np.where(goes > 0, goes, 0.0) * send[t],
                ]
                parts = np.array(
                    [self.computing[t], *(np.nan_to_num(m, nan=0.0, posinf=np.inf) for m in moved)]
                )
                busy = parts.max(axis=0) if self.case.overlap else parts.sum(axis=0)
                barred |= np.isinf(busy)
                rate += count / np.maximum(busy, INSTANT)
        return np.where(barred, np.inf, 1 / np.where(barred, 1.0, rate))
