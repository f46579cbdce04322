"""A training case laid out for search: what a stage costs on what it can run on, for all ranges at once.

Devices that are alike are counted, not named. A *unit* is what one stage runs on: a number of devices of
each kind; one device, unless stages may be replicated.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from isthmus.planning.slicing.replica import INSTANT
from isthmus.planning.slicing.step_case import StepCase, cut_positions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]


def alike(case: StepCase) -> tuple[tuple[int, ...], ...]:
    """Return the devices by kind: two are of one kind when swapping them changes nothing."""
    found: list[list[int]] = []
    for device in range(len(case.devices)):
        for members in found:
            if _swappable(case, members[0], device):
                members.append(device)
                break
        else:
            found.append([device])
    return tuple(map(tuple, found))


def _swappable(case: StepCase, a: int, b: int) -> bool:
    import numpy as np

    swap = np.arange(len(case.devices))
    swap[[a, b]] = b, a
    columns = (case.forward_seconds, case.backward_seconds, case.capacity_bytes[None, :])
    if not all(np.array_equal(values[:, a], values[:, b]) for values in columns):
        return False
    apart = ~np.eye(len(case.devices), dtype=bool)
    return all(
        np.array_equal(matrix[apart], matrix[np.ix_(swap, swap)][apart])
        for matrix in (case.seconds_per_byte, case.latency_seconds)
    )


ROUNDING = 5e-10
"""Relative: capacities are rounded up by what sums may differ; the verifier allows twice that."""


@dataclass(frozen=True, eq=False)
class Terrain:
    """``positions``: where cuts may lie, P of them, 0 and n included. Matrices ``[P, P]`` are by a stage's
    first position and the one behind its last; inf where no stage can be."""

    case: StepCase
    kinds: tuple[tuple[int, ...], ...]
    positions: tuple[int, ...]

    @functools.cached_property
    def counts(self) -> tuple[int, ...]:
        """How many devices each kind has."""
        return tuple(len(members) for members in self.kinds)

    @functools.cached_property
    def units(self) -> tuple[tuple[int, ...], ...]:
        """Numbers of devices of each kind."""
        kinds = len(self.counts)
        if not self.case.replicated:  # the product of all counts may have billions
            return tuple(tuple(int(t == k) for t in range(kinds)) for k in reversed(range(kinds)))
        return tuple(u for u in itertools.product(*(range(count + 1) for count in self.counts)) if any(u))

    @functools.cached_property
    def stages(self) -> int:
        """The most stages that a plan can have."""
        return min(len(self.positions) - 1, len(self.case.devices))

    def sums(self, values: Floats) -> Floats:
        """Return sums over ranges: ``[P, P]`` of a vector ``[n]``; inf where one is inf or the range is empty."""
        import numpy as np

        ordered = values[list(self.case.graph.topological)]
        at = np.array(self.positions)
        finite = np.concatenate([[0.0], np.where(np.isfinite(ordered), ordered, 0.0).cumsum()])[at]
        barred = np.concatenate([[0], np.isinf(ordered).cumsum()])[at]
        sums = np.maximum(finite[None, :] - finite[:, None], 0.0)
        allowed = (barred[None, :] == barred[:, None]) & (at[None, :] > at[:, None])
        return np.where(allowed, sums, np.inf)

    @functools.cached_property
    def weights(self) -> Floats:
        """Bytes of parameters, ``[P, P]``."""
        return self.sums(self.case.parameter_bytes)

    @functools.cached_property
    def activations(self) -> Floats:
        """Bytes that a micro-batch leaves, ``[P, P]``."""
        return self.sums(self.case.activation_bytes)

    @functools.cached_property
    def _by_kind(self) -> list[tuple[Floats, Floats]]:
        first = [members[0] for members in self.kinds]
        case = self.case
        return [
            (self.sums(case.forward_seconds[:, d]), self.sums(case.backward_seconds[:, d])) for d in first
        ]

    def _part(self, unit: tuple[int, ...], kind: int) -> Floats:
        """Return the share of each of a unit's devices of a kind, ``[P, P]``."""
        import numpy as np

        totals = {t: np.maximum(f + b, INSTANT) for t, (f, b) in enumerate(self._by_kind) if unit[t]}
        least = functools.reduce(np.minimum, totals.values())
        rates = {t: np.divide(least, s, out=np.ones_like(s), where=np.isfinite(s)) for t, s in totals.items()}
        parts: Floats = rates[kind] / sum(unit[t] * rate for t, rate in rates.items())
        return parts

    @functools.cached_property
    def passes(self) -> list[tuple[Floats, Floats]]:
        """Of each unit: forward and backward seconds of a micro-batch."""
        import numpy as np

        found = []
        for unit in self.units:
            used = [t for t, count in enumerate(unit) if count]
            if sum(unit) == 1:
                found.append(self._by_kind[used[0]])
                continue
            parts = {t: self._part(unit, t) for t in used}
            sides = [
                functools.reduce(np.maximum, (parts[t] * self._by_kind[t][side] for t in used))
                for side in (0, 1)
            ]
            found.append((sides[0], sides[1]))
        return found

    def needs(self, unit: int, later: int) -> dict[int, Floats]:
        """Return the bytes that a stage needs on each device of each kind of a unit, with so many stages behind it:
        ``[P, P]``, where it can run; inf or not a number elsewhere."""
        held = min(self.case.microbatches, later + 1)
        state = self.weights * self.case.state_bytes_per_weight_byte
        numbers = self.units[unit]
        alone = sum(numbers) == 1
        return {
            t: state + held * self.activations * (1.0 if alone else self._part(numbers, t))
            for t, count in enumerate(numbers)
            if count
        }

    def fits(self, unit: int, later: int) -> Bools:
        """Return whether a stage fits into a unit's memory with so many stages behind it, ``[P, P]``."""
        import numpy as np

        allowed = np.isfinite(self.passes[unit][0] + self.passes[unit][1])
        for t, needed in self.needs(unit, later).items():
            allowed &= needed <= float(self.case.capacity_bytes[self.kinds[t][0]]) * (1 + ROUNDING)
        return allowed

    @functools.cached_property
    def ahead(self) -> Floats:
        """Seconds of a transfer from unit u to unit w over position p: ``[u, w, P]``, inf where it cannot be.
        Back from w to u it is ``ahead[w, u, p]``."""
        import numpy as np

        size = self.case.crossing_bytes[list(self.positions)]
        found = np.empty((len(self.units), len(self.units), len(size)))
        for a, b in itertools.product(range(len(self.units)), repeat=2):
            pairs = self._pairs(self.units[a], self.units[b])
            found[a, b] = functools.reduce(np.maximum, (self._seconds(s, t, size) for s, t in pairs))
        return found

    def _pairs(self, a: tuple[int, ...], b: tuple[int, ...]) -> list[tuple[int, int]]:
        """Return a device of each kind of a with another of each kind of b."""
        return [
            (self.kinds[t][0], self.kinds[u][-1])
            for t, u in itertools.product(range(len(self.counts)), repeat=2)
            if a[t] and b[u]
        ]

    def _seconds(self, source: int, target: int, size: Floats) -> Floats:
        import numpy as np

        latency = float(self.case.latency_seconds[source, target])
        pace = float(self.case.seconds_per_byte[source, target])
        if source == target or not latency + pace < float("inf"):
            return np.full(len(size), np.inf)
        return latency + size * pace

    def finish(self, unit: int) -> Floats:
        """Return the seconds in which replicas sum their gradients, ``[P, P]``: a ring (Patarasuk and Yuan
        2009); 0 for one device."""
        import numpy as np

        numbers = self.units[unit]
        count = sum(numbers)
        if count == 1:
            return np.zeros_like(self.weights)
        pairs = [
            (s, t)
            for s, t in self._pairs(numbers, numbers)
            if s != t and not (self._kind(s) == self._kind(t) and numbers[self._kind(s)] == 1)
        ]
        latency = max(float(self.case.latency_seconds[s, t]) for s, t in pairs)
        pace = max(float(self.case.seconds_per_byte[s, t]) for s, t in pairs)
        if not latency + pace < float("inf"):
            return np.full_like(self.weights, np.inf)
        weights = np.where(np.isfinite(self.weights), self.weights, 0.0)
        return 2 * (count - 1) * (latency + weights / count * pace)

    def _kind(self, device: int) -> int:
        return next(t for t, members in enumerate(self.kinds) if device in members)

    @functools.cached_property
    def least(self) -> tuple[Floats, Floats]:
        """Forward and backward seconds of all operators before each position, at the least: ``[P]``.

        On the fastest device; with replicas, on all of them at once. A stage on any unit takes at least
        that: parallel rates are superadditive over operators.
        """
        import numpy as np

        order, at = list(self.case.graph.topological), list(self.positions)
        found = []
        for values in (self.case.forward_seconds[order], self.case.backward_seconds[order]):
            if self.case.replicated:
                each = 1.0 / (1.0 / np.maximum(values, INSTANT)).sum(axis=1)
                each = np.where((values <= INSTANT).any(axis=1), 0.0, each)
            else:
                each = values.min(axis=1)
            found.append(np.concatenate([[0.0], each.cumsum()])[at])
        return found[0], found[1]


def terrain(case: StepCase) -> Terrain:
    """Lay a case out, with a cut allowed wherever it divides no co-located operators."""
    return Terrain(case, alike(case), cut_positions(case.graph))
