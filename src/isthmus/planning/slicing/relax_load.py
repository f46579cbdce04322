"""Questions about load cases without a plan: contiguous ones to the dynamic programme, others to the mixed-integer
model."""

from __future__ import annotations

import dataclasses
import itertools
import time
from typing import TYPE_CHECKING

from isthmus.planning.slicing import lattice, sums_model, verify
from isthmus.planning.slicing.arrays import stages_of
from isthmus.planning.slicing.case import Graph, LoadCase, SumCase
from isthmus.planning.slicing.kinds import kinds
from isthmus.planning.slicing.relax import Least
from isthmus.planning.slicing.remedy import Remedy
from isthmus.planning.slicing.step_case import is_chain

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from isthmus.planning.slicing.case import Floats
    from isthmus.planning.slicing.solution import Stage
    from isthmus.planning.slicing.sums_model import Elastic

QUESTION = 0.3
"""The part of the time left that one question may take."""
LEAST_SECONDS = 0.5
"""Of a question, however little time is left: most are answered in less."""
MOST_IDEALS = 20_000
"""Beyond that, ranges of a few linear orders are looked at."""


class _Loads:
    """What both have in common. ``until``: of ``time.perf_counter``."""

    def __init__(self, case: LoadCase, until: float) -> None:
        import numpy as np

        self.case, self.until = case, until
        self.allowed: NDArray[np.bool_] = np.isfinite(case.seconds)

    def kinds(self) -> Sequence[tuple[int, ...]]:
        return kinds(self.case).members

    def broken(self, stages: Sequence[Stage]) -> list[str]:
        return verify.violations(self.case, stages)

    def needs(self, stages: Sequence[Stage]) -> dict[int, float]:
        """A replica holds all that its slice has."""
        memory = self.case.memory_bytes
        return {d: float(memory[list(s.operators)].sum()) for s in stages for d in s.devices}

    def any_plan(self) -> Least:
        import numpy as np

        return self.least(np.where(self.allowed, 0.0, np.inf), self.case.capacity_bytes)

    def memory_of(self, device: int) -> Least:
        import numpy as np

        price, room = np.where(self.allowed, 0.0, np.inf), self.case.capacity_bytes.copy()
        price[:, device] = np.where(self.allowed[:, device], self.case.memory_bytes, np.inf)
        room[device] = np.inf
        return self.least(price, room)

    def newly_on(self, device: int) -> Least:
        import numpy as np

        price = np.where(self.allowed, 0.0, np.inf)
        price[:, device] = ~self.allowed[:, device]
        return self.least(price, self.case.capacity_bytes)

    def least(self, price: Floats, room: Floats) -> Least:
        """Minimise the largest price of a device, of which one alone has any."""
        raise NotImplementedError

    def _seconds(self) -> float:
        """Return how long a question may take."""
        return max(LEAST_SECONDS, (self.until - time.perf_counter()) * QUESTION)

    def _changed_seconds(self, pairs: Sequence[tuple[int, int]]) -> LoadCase:
        """What the operators take there is not known: as long as they take where that is longest."""
        import numpy as np

        seconds = self.case.seconds.copy()
        for v, d in pairs:
            seconds[v, d] = np.where(self.allowed[v], self.case.seconds[v], 0.0).max()
        return dataclasses.replace(self.case, seconds=seconds)


class Pipelines(_Loads):
    """Contiguous slices; of replicated ones the ranges of one order, which are all that is searched. Replicas need as
    much memory each as one device would: what is possible with them is possible without."""

    def __init__(self, case: LoadCase, until: float) -> None:
        super().__init__(case, until)
        graph, order = case.graph, case.graph.topological
        edges = tuple(itertools.pairwise(order)) if case.replicated else graph.edges
        backward = () if case.replicated else graph.backward
        self.graph = Graph(graph.names, (), order=edges, groups=graph.groups, backward=backward)
        self.whole = not case.replicated or (case.contiguous and is_chain(graph))

    def least(self, price: Floats, room: Floats) -> Least:
        import numpy as np

        free = np.zeros_like(self.case.send_seconds)
        asked = LoadCase(
            self.graph,
            self.case.devices,
            price,
            self.case.memory_bytes,
            room,
            send_seconds=free,
            receive_seconds=free,
        )
        if lattice.applies(asked):
            return Least(None, False)
        found = lattice.search(asked, most_ideals=MOST_IDEALS, time_limit_seconds=self._seconds())
        return Least(found.stages, bool(found.ideals) and self.whole)

    def memory_of_all(self) -> Least:
        import numpy as np

        room, memory = self.case.capacity_bytes, self.case.memory_bytes
        with np.errstate(divide="ignore", invalid="ignore"):
            part = np.where(memory[:, None] > 0, memory[:, None] / room[None, :], 0.0)
        return self.least(np.where(self.allowed, part, np.inf), np.full(len(room), np.inf))

    def with_room(self, room: Floats) -> Pipelines:
        return Pipelines(dataclasses.replace(self.case, capacity_bytes=room), self.until)

    def with_allowed(self, pairs: Sequence[tuple[int, int]]) -> Pipelines:
        return Pipelines(self._changed_seconds(pairs), self.until)

    def others(self) -> list[Remedy]:
        """Slices that need not be contiguous."""
        loose = Anywhere(
            dataclasses.replace(self.case, contiguous=False, replicated=False), time.perf_counter() + 5
        )
        found = loose.any_plan()
        if found.stages is None or loose.broken(found.stages):
            return []
        missing = "every operator has its place within memory, but not in contiguous slices"
        would_do = "slices that need not be contiguous" + (
            ", each on one device" if self.case.replicated else ""
        )
        return [Remedy(missing, would_do, loose.case, least=True)]


class Anywhere(_Loads):
    """Slices that may lie anywhere: blocks of co-located operators in bins."""

    def least(self, price: Floats, room: Floats, elastic: Elastic = "no") -> Least:
        import numpy as np

        free = np.zeros_like(self.case.send_seconds)
        top = float(np.where(np.isfinite(price), price, 0.0).max()) or 1.0
        graph = Graph(self.case.graph.names, (), groups=self.case.graph.groups)
        asked = SumCase(
            graph,
            self.case.devices,
            price / top,
            self.case.memory_bytes,
            room,
            link_fixed=free,
            link_per_size=free,
        )
        model = sums_model.build(asked, tighter=sums_model.SLACK, elastic=elastic)
        if model is None:
            return Least(None, False)
        outcome = model.programme.solve(self._seconds())
        device_of = model.read(outcome)
        return Least(None if device_of is None else stages_of(graph, device_of), outcome.finished)

    def memory_of_all(self) -> Least:
        import numpy as np

        room = self.case.capacity_bytes
        # What has none has none however often.
        barred = (self.case.memory_bytes[:, None] > 0) & (room == 0)[None, :]
        price = np.where(self.allowed & ~barred, 0.0, np.inf)
        return self.least(price, room, elastic="together")

    def with_room(self, room: Floats) -> Anywhere:
        return Anywhere(dataclasses.replace(self.case, capacity_bytes=room), self.until)

    def with_allowed(self, pairs: Sequence[tuple[int, int]]) -> Anywhere:
        return Anywhere(self._changed_seconds(pairs), self.until)

    def others(self) -> list[Remedy]:
        return []
