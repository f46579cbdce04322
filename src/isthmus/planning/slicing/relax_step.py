"""Questions about training steps without a plan: a dynamic programme over ranges, devices used and stages behind.

It is the one of :mod:`step_bound` with prices in place of seconds: a stage costs what is asked about, and a plan as
much as its dearest stage. Where some devices cannot send to each other, the next stage's unit is kept apart.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING

from isthmus.planning.slicing import training
from isthmus.planning.slicing.relax import Least
from isthmus.planning.slicing.remedy import Remedy, some
from isthmus.planning.slicing.step_bound import Used
from isthmus.planning.slicing.step_case import StepCase, is_chain
from isthmus.planning.slicing.step_terrain import ROUNDING, Terrain, alike
from isthmus.planning.slicing.verify_step import step_violations

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from isthmus.planning.slicing.case import Floats
    from isthmus.planning.slicing.solution import Stage

    Price = Callable[[Terrain, int, int], Floats]

MOST_NUMBERS = 20_000_000
"""Prices that are kept at once; beyond that, fewer places for a cut are looked at."""
MOST_LINKS = 40
"""Pairs of devices without a link that are tried one by one."""


class Steps:
    """A training step's case."""

    def __init__(self, case: StepCase) -> None:
        import numpy as np

        self.case = case
        self.allowed: NDArray[np.bool_] = np.isfinite(case.forward_seconds + case.backward_seconds)

    def kinds(self) -> Sequence[tuple[int, ...]]:
        return alike(self.case)

    def broken(self, stages: Sequence[Stage]) -> list[str]:
        return step_violations(self.case, stages)

    def with_room(self, room: Floats) -> Steps:
        return Steps(dataclasses.replace(self.case, capacity_bytes=room))

    def needs(self, stages: Sequence[Stage]) -> dict[int, float]:
        case, found = self.case, dict[int, float]()
        for k, stage in enumerate(stages):
            held, rows = min(case.microbatches, len(stages) - k), list(stage.operators)
            state = float(case.parameter_bytes[rows].sum()) * case.state_bytes_per_weight_byte
            left = held * float(case.activation_bytes[rows].sum())
            found |= {d: state + left * share for d, share in zip(stage.devices, stage.shares, strict=True)}
        return found

    def with_allowed(self, pairs: Sequence[tuple[int, int]]) -> Steps:
        """What the operators take there is not known: as long as they take where that is longest."""
        import numpy as np

        parts = [self.case.forward_seconds.copy(), self.case.backward_seconds.copy()]
        for (v, d), part in itertools.product(pairs, parts):
            part[v, d] = np.where(self.allowed[v], part[v], 0.0).max()
        return Steps(dataclasses.replace(self.case, forward_seconds=parts[0], backward_seconds=parts[1]))

    def any_plan(self) -> Least:
        return self._least(_nothing)

    def memory_of(self, device: int) -> Least:
        """The device is a kind by itself, and all others keep what they have."""

        def price(land: Terrain, unit: int, later: int) -> Floats:
            import numpy as np

            needs = land.needs(unit, later)
            own = [t for t in needs if land.kinds[t] == (device,)]
            found = _limited(land, unit, later, [t for t in needs if t not in own])
            return np.where(np.isfinite(found), needs[own[0]] if own else 0.0, np.inf)

        return self._least(price, apart=device)

    def memory_of_all(self) -> Least:
        def price(land: Terrain, unit: int, later: int) -> Floats:
            import numpy as np

            found = _limited(land, unit, later, [])
            for t, needed in land.needs(unit, later).items():
                room = float(land.case.capacity_bytes[land.kinds[t][0]])
                with np.errstate(divide="ignore", invalid="ignore"):
                    part = np.where(needed > 0, needed / room, 0.0)
                found = np.where(np.isfinite(found), np.maximum(found, part), np.inf)
            return found

        return self._least(price)

    def newly_on(self, device: int) -> Least:
        """Ask with the device able to run all, at a price for each operator that it may not."""
        import numpy as np

        barred = np.flatnonzero(~self.allowed[:, device])
        able = self.with_allowed([(int(v), device) for v in barred])
        new = (~self.allowed[:, device]).astype(float)

        def price(land: Terrain, unit: int, later: int) -> Floats:
            found = _nothing(land, unit, later)
            own = [t for t, count in enumerate(land.units[unit]) if count and land.kinds[t] == (device,)]
            return found + (land.sums(new) if own else 0.0)

        return able._least(price, apart=device)

    def others(self) -> list[Remedy]:
        """A link between two devices that have none; or links between all."""
        import numpy as np

        missing = np.isinf(self.case.latency_seconds + self.case.seconds_per_byte)
        missing = np.triu(missing | missing.T, k=1)
        pairs = [(int(a), int(b)) for a, b in np.argwhere(missing)]
        every = self._linked(pairs)
        found = every.any_plan() if pairs else Least(None, True)
        if found.stages is None or every.broken(found.stages):
            return []
        names = self.case.devices
        ways = [([pair], f"a link both ways between {names[pair[0]]} and {names[pair[1]]}") for pair in pairs]
        for chosen, would_do in ways[:MOST_LINKS]:
            linked = self._linked(chosen)
            answer = linked.any_plan()
            if answer.stages is not None and not linked.broken(answer.stages):
                return [Remedy(self._unlinked(found.stages), would_do, linked.case, least=True)]
        used = self._crossed(found.stages)
        would_do = "links both ways between " + some([f"{names[a]} and {names[b]}" for a, b in used])
        return [Remedy(self._unlinked(found.stages), would_do, self._linked(used).case, least=False)]

    def _crossed(self, stages: Sequence[Stage]) -> list[tuple[int, int]]:
        """Return the pairs without a link that a plan would send between."""
        import numpy as np

        missing = np.isinf(self.case.latency_seconds + self.case.seconds_per_byte)
        pairs = {(a, b) for stage in stages for a in stage.devices for b in stage.devices if a < b}
        for first, second in itertools.pairwise(stages):
            pairs |= {(min(p), max(p)) for p in itertools.product(first.devices, second.devices)}
        return sorted((a, b) for a, b in pairs if missing[a, b] or missing[b, a])

    def _unlinked(self, stages: Sequence[Stage]) -> str:
        names = self.case.devices
        lost = some([f"{names[a]} and {names[b]}" for a, b in self._crossed(stages)])
        return f"no link carries what stages would send between {lost}"

    def _linked(self, pairs: Sequence[tuple[int, int]]) -> Steps:
        """Open links as slow as the slowest that there is."""
        import numpy as np

        matrices = [self.case.latency_seconds.copy(), self.case.seconds_per_byte.copy()]
        for matrix in matrices:
            slowest = float(matrix.max(where=np.isfinite(matrix), initial=0.0))
            for a, b in (*pairs, *((b, a) for a, b in pairs)):
                matrix[a, b] = slowest
        return Steps(
            dataclasses.replace(self.case, latency_seconds=matrices[0], seconds_per_byte=matrices[1])
        )

    def _least(self, price: Price, apart: int | None = None) -> Least:
        land, given_up = training.affordable(self.case)
        if apart is not None:
            kinds = [tuple(d for d in members if d != apart) for members in land.kinds]
            land = dataclasses.replace(land, kinds=(*(members for members in kinds if members), (apart,)))
        most = int((MOST_NUMBERS / (land.stages * len(land.units))) ** 0.5)
        if len(land.positions) > most:
            land, given_up = training.fewer_places(land, most), [*given_up, "places"]
        stages = _Ranges(land, price).best()
        return Least(stages, not given_up and is_chain(self.case.graph))


def _nothing(land: Terrain, unit: int, later: int) -> Floats:
    return _limited(land, unit, later, list(land.needs(unit, later)))


def _limited(land: Terrain, unit: int, later: int, kinds: Sequence[int]) -> Floats:
    """Return ``[P, P]``: 0 where a unit may run a range that fits on its devices of these kinds, inf elsewhere."""
    import numpy as np

    allowed = np.isfinite(land.passes[unit][0] + land.passes[unit][1] + land.finish(unit))
    needs = land.needs(unit, later)
    for t in kinds:
        allowed &= needs[t] <= float(land.case.capacity_bytes[land.kinds[t][0]]) * (1 + ROUNDING)
    return np.where(allowed, 0.0, np.inf)


class _Ranges:
    """``table[later][count, next]``: float64 ``[P]``, the least that the dearest stage before each position costs, with
    so many stages behind, the devices counted by ``count`` used, and ``next`` the unit of the first of these, or -1
    where that does not matter."""

    def __init__(self, land: Terrain, price: Price) -> None:
        import numpy as np

        self.land, self.used = land, Used(land.counts)
        units = range(len(land.units))
        reach = np.isfinite(land.ahead[:, :, 0])
        self.linked = reach & reach.T
        pairs = [
            (a, b) for a, b in itertools.product(units, units) if a != b or land.counts[self._kind(a)] > 1
        ]
        self.matters = land.case.replicated or not all(self.linked[pair] for pair in pairs)
        self.price = [[price(land, unit, later) for unit in units] for later in range(land.stages)]
        self.table: list[dict[tuple[int, int], Floats]] = [{} for _ in range(land.stages + 1)]

    def _kind(self, unit: int) -> int:
        return next(t for t, count in enumerate(self.land.units[unit]) if count)

    def best(self) -> tuple[Stage, ...] | None:
        """Return the plan whose dearest stage costs least; None where there is none."""
        import numpy as np

        if not np.isfinite(self._before(0, 0, -1)[-1]):
            return None
        later, count, following, end = 0, 0, -1, len(self.land.positions) - 1
        found = []
        while end:
            _, start, unit = min(self._options(later, count, following, end))
            found.append((start, end, unit))
            count += self.used.number(self.land.units[unit])
            later, following, end = later + 1, unit if self.matters else -1, start
        return training.name_devices(self.land, found)

    def _before(self, later: int, count: int, following: int) -> Floats:
        import numpy as np

        key = (count, following)
        if key not in self.table[later]:
            found = np.full(len(self.land.positions), np.inf)
            found[0] = 0.0
            for unit in self._units(later, count, following):
                then = self._then(later, count, unit)
                found[1:] = np.minimum(
                    found[1:], np.maximum(self.price[later][unit], then[:, None]).min(axis=0)[1:]
                )
            self.table[later][key] = found
        return self.table[later][key]

    def _then(self, later: int, count: int, unit: int) -> Floats:
        return self._before(
            later + 1, count + self.used.number(self.land.units[unit]), unit if self.matters else -1
        )

    def _units(self, later: int, count: int, following: int) -> list[int]:
        if later == self.land.stages:
            return []
        return [
            unit
            for unit, numbers in enumerate(self.land.units)
            if self.used.room(numbers)[count] and (following < 0 or self.linked[unit, following])
        ]

    def _options(self, later: int, count: int, following: int, end: int) -> list[tuple[float, int, int]]:
        """Return the best last stage before a position on each unit: price, start, unit."""
        import numpy as np

        found = []
        for unit in self._units(later, count, following):
            total = np.maximum(self.price[later][unit][:, end], self._then(later, count, unit))
            start = int(total.argmin())
            found.append((float(total[start]), start, unit))
        return found
