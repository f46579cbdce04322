"""Branch and bound over 1F1B pipelines, built from the last stage to the first.

From the back, the number of stages behind a stage is known, and with it the micro-batches that it holds:
memory is exact. A label is a pipeline of the last stages. What it costs whatever stands before it is its
response, a max-plus matrix (:func:`step_walk.response`); of two labels with the same place, devices left and first
unit, one whose response is nowhere larger makes the other needless.
"""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING

from isthmus.planning.slicing.step_bound import Floor, sides, stage_bound
from isthmus.planning.slicing.step_walk import Labels, Rows, order, response, walk

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from isthmus.planning.slicing.schedule import Action
    from isthmus.planning.slicing.step_pairs import Pairs

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

CLOSE = 5e-10
"""Relative: what is not below the best by more than that is not looked at."""
CHUNK = 2_000_000
"""Numbers in one array of a walk."""

Plan = list[tuple[int, int, int]]
"""From the last stage to the first: start, end (indices of positions) and unit."""


class _LateError(Exception):
    """The time is up."""


class Search:
    """``value``, ``plan``: the best found so far; inf and empty before any."""

    def __init__(self, floor: Floor, stop_at: float) -> None:
        self.floor, self.land, self.stop_at = floor, floor.land, stop_at
        self.value = float("inf")
        self.plan: Plan = []
        self.history: list[Labels] = []
        self.pairs: Pairs | None = None

    @property
    def limit(self) -> float:
        """What a plan has to be below to matter."""
        return self.value * (1 - CLOSE)

    def late(self) -> bool:
        """Whether the time is up."""
        return time.perf_counter() > self.stop_at

    def try_plan(self, plan: Plan) -> None:
        """Score a plan, and keep it if it is the best."""
        import numpy as np

        labels = self._nothing()
        for start, _, unit in plan:
            one = np.zeros(1, dtype=np.int64)
            labels = self._extend(labels, one, one + start, one + unit, labels.bound)
            if not len(labels.start):
                return  # no link between two neighbours
        ended, _ = self._walk(labels)
        if float(ended[0]) < self.value:
            self.value, self.plan = float(ended[0]), plan

    def sweep(self, width: int | None, most: int) -> float:
        """Search with at most ``width`` labels of one state (None: all that matter) and ``most`` of one
        number of stages. Return a bound on every plan that was passed over; inf when none was."""
        import numpy as np

        labels, passed = self._nothing(), float("inf")
        self.history = []
        for later in range(self.land.stages):
            parent, start, unit, low = self._candidates(labels, later)
            ranked = np.argsort(low, kind="stable")
            passed = min(passed, float(low[ranked[most:]].min(initial=np.inf)))
            ranked = ranked[:most]
            self.history.append(labels)
            fresh = self._extend(labels, parent[ranked], start[ranked], unit[ranked], low[ranked])
            try:
                labels, lost = self._survivors(fresh, width)
            except _LateError:
                return min(passed, float(fresh.bound.min()))
            passed = min(passed, lost)
            if not len(labels.start):
                break
        return passed

    def _nothing(self) -> Labels:
        import numpy as np

        none, zero = np.empty((1, 0)), np.zeros(1, dtype=np.int64)
        end = zero + len(self.land.positions) - 1
        return Labels(end, zero, zero, zero, np.array([self.floor.root]), Rows(none, none, none, none, none))

    def _candidates(self, labels: Labels, later: int) -> tuple[Ints, Ints, Ints, Floats]:
        """Return every stage that may stand before a label: label, start, unit and bound."""
        import numpy as np

        found: list[tuple[Ints, Ints, Ints, Floats]] = []
        table = self.floor.table[later + 1]
        for unit, numbers in enumerate(self.land.units):
            own = stage_bound(self.land, unit, later)
            free = np.flatnonzero(self.floor.used.room(numbers)[labels.count])
            for part in np.array_split(free, 1 + len(free) * len(own) // CHUNK):
                behind = table[:, labels.count[part] + self.floor.used.number(numbers)]
                low = np.maximum(np.maximum(own[:, labels.start[part]], behind), labels.bound[part])
                self._sharpen(low, labels, part, unit)
                start, column = np.nonzero(low < self.limit)
                found.append(
                    (part[column], start, np.full(len(start), unit, dtype=np.int64), low[start, column])
                )
        parts = [np.concatenate(entry) for entry in zip(*found, strict=True)]
        return parts[0], parts[1], parts[2], parts[3]

    def _sharpen(self, low: Floats, labels: Labels, part: Ints, unit: int) -> None:
        """Raise bounds ``[P, L]`` of a stage before each label by what its neighbours cost it: in place."""
        import numpy as np

        if self.pairs is None:
            return
        stages = labels.rows.forward.shape[1] + 1
        for count in np.unique(labels.count[part]):
            mine = np.flatnonzero(labels.count[part] == count)
            number = int(count) + self.floor.used.number(self.land.units[unit])
            known = self.pairs.table[stages][number, unit]
            low[:, mine] = np.maximum(low[:, mine], known[:, labels.start[part[mine]]])

    def _extend(self, labels: Labels, parent: Ints, start: Ints, unit: Ints, low: Floats) -> Labels:
        """Put a stage before each label named by ``parent``; those that no link reaches fall away."""
        import numpy as np

        land, base = self.land, labels.pick(parent)
        end, r = base.start, base.rows
        forward, backward, finish = np.empty((3, len(parent)))
        numbers = np.array([self.floor.used.number(entry) for entry in land.units])
        for u in np.unique(unit):
            mine = unit == u
            forward[mine] = land.passes[u][0][start[mine], end[mine]]
            backward[mine] = land.passes[u][1][start[mine], end[mine]]
            finish[mine] = land.finish(u)[start[mine], end[mine]]
        ahead, back, later_backward = r.ahead, r.back, r.backward
        if r.forward.shape[1]:
            goes, comes = land.ahead[unit, base.unit, end], land.ahead[base.unit, unit, end]
            if land.case.overlap:
                ahead, back = np.c_[goes, ahead], np.c_[comes, back]
            else:
                forward = forward + goes
                later_backward = np.c_[later_backward[:, 0] + comes, later_backward[:, 1:]]
                ahead, back = np.c_[np.zeros(len(goes)), ahead], np.c_[np.zeros(len(goes)), back]
        rows = Rows(
            np.c_[forward, r.forward], np.c_[backward, later_backward], ahead, back, np.c_[finish, r.finish]
        )
        fresh = Labels(start, base.count + numbers[unit], unit, parent, low, rows)
        reached = np.isfinite(
            rows.forward[:, 0] + rows.backward.sum(axis=1) + ahead.sum(axis=1) + back.sum(axis=1)
        )
        return fresh if reached.all() else fresh.pick(reached)

    def _walk(self, labels: Labels) -> tuple[Floats, Floats]:
        import numpy as np

        steps = order(labels.rows.forward.shape[1], self.land.case.microbatches)
        ended, out = walk(labels.rows, steps, np.zeros((self.land.case.microbatches, 1)))
        return ended[:, 0], out[:, -1, 0]

    def _survivors(self, labels: Labels, width: int | None) -> tuple[Labels, float]:
        """Score labels, take note of those that are whole plans, and return those that may lead to a better
        one, with a bound on what was left out."""
        import numpy as np

        if not len(labels.start):
            return labels, float("inf")
        many = 1 + len(labels.start) * self.land.case.microbatches * labels.rows.forward.shape[1] // CHUNK
        scored = [
            self._score(labels.pick(part)) for part in np.array_split(np.arange(len(labels.start)), many)
        ]
        bound = np.concatenate(scored)
        self._note(labels, bound)
        open_ = np.flatnonzero((labels.start > 0) & (bound < self.limit))
        left = Labels(labels.start, labels.count, labels.unit, labels.parent, bound, labels.rows).pick(open_)
        return self._thin(left, width)

    def _score(self, labels: Labels) -> Floats:
        """Return each label's bound; of a whole plan, its value."""
        import numpy as np

        if self.late():
            raise _LateError
        ended, last = self._walk(labels)
        bound = labels.bound.copy()
        for u in np.unique(labels.unit):
            mine = labels.unit == u
            around, at = sides(self.land, u), labels.start[mine]
            leave = last[mine] + around.back_before[at] + around.busy_back[at]
            bound[mine] = np.maximum(bound[mine], around.out_before[at] + np.maximum(ended[mine], leave))
        whole = labels.start == 0
        bound[whole] = ended[whole]
        return bound

    def _note(self, labels: Labels, bound: Floats) -> None:
        import numpy as np

        whole = np.flatnonzero(labels.start == 0)
        if not len(whole) or bound[whole].min() >= self.value:
            return
        chosen = int(whole[bound[whole].argmin()])
        self.value = float(bound[chosen])
        found: Plan = []
        at = labels
        for earlier in reversed(self.history):
            parent = int(at.parent[chosen])
            found.append((int(at.start[chosen]), int(earlier.start[parent]), int(at.unit[chosen])))
            at, chosen = earlier, parent
        self.plan = found[::-1]

    def _thin(self, labels: Labels, width: int | None) -> tuple[Labels, float]:
        """Keep what is needed of each state: labels of one start, devices and first unit."""
        import numpy as np

        units = len(self.land.units)
        key = (labels.start * self.floor.used.size + labels.count) * units + labels.unit
        sort = np.lexsort((labels.bound, key))
        edges = np.flatnonzero(np.diff(key[sort], prepend=-1, append=-1))
        groups = [sort[a:b] for a, b in itertools.pairwise(edges)]
        if width is not None:
            lost = [float(labels.bound[group[width]]) for group in groups if len(group) > width]
            kept = [group[:width] for group in groups]
            return labels.pick(_join(kept)), min(lost, default=float("inf"))
        steps = order(labels.rows.forward.shape[1], self.land.case.microbatches)
        kept = [group if len(group) == 1 else self._undominated(labels, group, steps) for group in groups]
        return labels.pick(_join(kept)), float("inf")

    def _undominated(self, labels: Labels, group: Ints, steps: list[tuple[int, Action]]) -> Ints:
        import numpy as np

        if self.late():
            raise _LateError
        answers = self._responses(labels.pick(group), steps)
        slack = 1e-13 * self.value if self.plan else 0.0
        kept: list[int] = []
        for k in range(len(group)):
            if not kept or not (answers[kept] <= answers[k] + slack).all(axis=1).any():
                kept.append(k)
        found: Ints = group[np.array(kept)]
        return found

    def _responses(self, labels: Labels, steps: list[tuple[int, Action]]) -> Floats:
        """Return the responses side by side for each time that the first stage may be busy sending back."""
        import numpy as np

        many, r = self.land.case.microbatches, labels.rows
        if self.land.case.overlap:
            return response(r, steps, many)
        seconds = np.unique(self.land.ahead[labels.unit[0], :, labels.start[0]])
        found = []
        for extra in seconds[np.isfinite(seconds)]:
            backward = np.c_[r.backward[:, 0] + extra, r.backward[:, 1:]]
            found.append(response(Rows(r.forward, backward, r.ahead, r.back, r.finish), steps, many))
        return np.concatenate(found, axis=1)


def _join(parts: list[Ints]) -> Ints:
    import numpy as np

    return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)
