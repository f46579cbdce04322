"""Slices that may lie anywhere, or whose transfers depend on both sides: a constraint programme for OR-tools' CP-SAT.

It works on integers: costs and sizes are rounded down and capacities up, so that its bound holds for the real case;
what it finds is scored again with the real figures.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from isthmus.planning.slicing import anneal, verify
from isthmus.planning.slicing.blocks import Blocks
from isthmus.planning.slicing.kinds import kinds
from isthmus.planning.slicing.solution import Stage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from isthmus.planning.slicing.arrays import Ints
    from isthmus.planning.slicing.case import LoadCase

    Flags = NDArray[np.bool_]

STEPS = 2**24
"""Integer units of the first plan's value: rounding loses at most one part in that for each operator."""
MEMORY_STEPS = 2**40
"""Integer units of the largest block's memory; whole bytes up to a tebibyte are counted as they are."""


@dataclass(frozen=True)
class Found:
    """``stages``: None when none was found. ``closed``: the search ended by itself: that is the best, or none fits.
    ``given_up``: what was not searched for another reason than time. ``method``: of the stages, where it is not
    the search's own."""

    stages: tuple[Stage, ...] | None
    bound: float
    closed: bool
    given_up: str = ""
    method: str = ""


def size(case: LoadCase, blocks: Blocks) -> int:
    """Return about how many terms the programme of a case has."""
    m = len(case.devices)
    each = m if anneal.applies(case) else m * m
    found = len(blocks.members) * m + each * sum(map(len, blocks.consumers))
    return found + (m * m * len(blocks.edges) if case.contiguous else 0)


class Constraints:
    """The constraint programme. ``x[b][d]``: block b runs on device d."""

    def __init__(self, case: LoadCase, blocks: Blocks, first: tuple[Stage, ...] | None, floor: float) -> None:
        from ortools.sat.python import cp_model

        self.case, self.blocks, self.first = case, blocks, first
        self.model: Any = cp_model.CpModel()
        worst = verify.objective(case, first) if first is not None else _everything(case)
        self.scale = STEPS / max(worst, 1e-300)
        self.x = [[self._block(b, d) for d in range(len(case.devices))] for b in range(len(blocks.members))]
        for row in self.x:
            self.model.add_exactly_one(row)
        self.top = self.model.new_int_var(self._down(floor), STEPS + 1, "load")
        self._memory()
        self._loads()
        if case.contiguous:
            self._pipeline()
        self.model.minimize(self.top)
        self.solver: Any = cp_model.CpSolver()
        if first is not None:
            self._hint(first)

    def solve(self, seconds: float, workers: int, *, first_only: bool = False) -> Found:
        """Run the solver. ``first_only``: any plan will do."""
        from ortools.sat.python import cp_model

        solver = self.solver
        solver.parameters.max_time_in_seconds = seconds
        solver.parameters.num_workers = workers
        solver.parameters.random_seed = 1
        solver.parameters.stop_after_first_solution = first_only
        status = solver.solve(self.model)
        closed = status in (cp_model.OPTIMAL, cp_model.INFEASIBLE)
        if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
            return Found(None, 0.0, closed)
        device_of = [next(d for d, entry in enumerate(row) if solver.value(entry)) for row in self.x]
        return Found(self.blocks.stages(device_of), solver.best_objective_bound / self.scale, closed)

    def stop(self) -> None:
        """End a search that has begun in another thread."""
        self.solver.stop_search()

    def narrow(self, parted: dict[tuple[int, int], Flags], heavy: Ints) -> None:
        """Leave out transfers, and swaps of devices that are alike, as :class:`free_mip.Model` does."""
        groups = kinds(self.case).members
        kind_of = {d: t for t, members in enumerate(groups) for d in members}
        for (p, r), possible in parted.items():
            for e in kind_of:
                barred = [d for d in kind_of if d != e and not possible[kind_of[d], kind_of[e]]]
                if barred:
                    self.model.add_at_most_one([self.x[r][e], *(self.x[p][d] for d in barred)])
        for before, d in (pair for members in groups for pair in itertools.pairwise(members)):
            for i, b in enumerate(heavy):
                earlier = [self.x[a][before] for a in heavy[:i]]
                self.model.add_bool_or([self.x[b][d].negated(), *earlier])
        # The relaxation is what closes a narrowed case; one that is not narrowed has it in a worker of its own.
        self.solver.parameters.linearization_level = 2

    def _block(self, b: int, d: int) -> Any:
        allowed = self.blocks.seconds[b, d] < float("inf")
        return self.model.new_bool_var(f"x{b}_{d}") if allowed else self.model.new_constant(0)

    def _down(self, seconds: float) -> int:
        return int(seconds * self.scale)

    def _memory(self) -> None:
        import numpy as np

        # A sum of what was rounded down is at most the room rounded down: no plan that fits is lost.
        memory = self.blocks.memory_bytes
        finest = 1.0 if (memory == np.floor(memory)).all() else 1e-300
        unit = max(float(memory.max()) / MEMORY_STEPS, finest)
        needs = [int(need) for need in np.floor(memory / unit)]
        for d, room in enumerate(self.case.capacity_bytes):
            most = room * (1 + verify.TOLERANCE) / unit
            if most < sum(needs):
                held = sum(need * row[d] for need, row in zip(needs, self.x, strict=True))
                self.model.add(held <= int(most))

    def _loads(self) -> None:
        parts = [[self._computing(d)] for d in range(len(self.case.devices))]
        sending: list[list[Any]] = [[] for _ in self.case.devices]
        receiving: list[list[Any]] = [[] for _ in self.case.devices]
        for s in range(len(self.blocks.size)):
            self._signal(s, sending, receiving)
        for d, part in enumerate(parts):
            if self.case.overlap:
                for terms in (part, sending[d], receiving[d]):
                    self.model.add(sum(terms) <= self.top)
            else:
                self.model.add(sum([*part, *sending[d], *receiving[d]]) <= self.top)

    def _computing(self, d: int) -> Any:
        column = self.blocks.seconds[:, d]
        return sum(
            self._down(float(cost)) * row[d]
            for cost, row in zip(column, self.x, strict=True)
            if cost < float("inf")
        )

    def _signal(self, s: int, sending: list[list[Any]], receiving: list[list[Any]]) -> None:
        """A device that makes a signal sends it at the pace of the slowest receiver; one that reads it receives it."""
        case, producer, size = self.case, int(self.blocks.producer[s]), float(self.blocks.size[s])
        for d in range(len(case.devices)):
            paces_out = {float(case.send_seconds[d, e]) for e in range(len(case.devices)) if e != d}
            paces_in = {float(case.receive_seconds[e, d]) for e in range(len(case.devices)) if e != d}
            if max(paces_out, default=0.0) > 0:
                sending[d].append(self._busy(s, d, paces_out, producer, size, sends=True))
            if max(paces_in, default=0.0) > 0:
                receiving[d].append(self._busy(s, d, paces_in, producer, size, sends=False))

    def _busy(self, s: int, d: int, paces: set[float], producer: int, size: float, *, sends: bool) -> Any:
        """Return an expression for what device d is busy sending, or receiving, signal s."""
        readers = self.blocks.consumers[s]
        made = self.x[producer][d]
        if len(paces) == 1:
            cost = self._down(size * max(paces))
            busy = self.model.new_bool_var("")
            for reader in readers:
                read = self.x[reader][d]
                apart = [made.negated(), read] if sends else [read.negated(), made]
                self.model.add_bool_or([*apart, busy])
            return cost * busy
        most = self._down(size * max(paces))
        busy = self.model.new_int_var(0, most, "")
        for e, reader in itertools.product(range(len(self.case.devices)), readers):
            if e == d:
                continue
            pace = self.case.send_seconds[d, e] if sends else self.case.receive_seconds[e, d]
            both = [made, self.x[reader][e]] if sends else [self.x[producer][e], self.x[reader][d]]
            self.model.add(busy >= self._down(size * float(pace))).only_enforce_if(both)
        return busy

    def _pipeline(self) -> None:
        """Devices have an order, and data moves along it: the graph of slices has no cycle."""
        m = len(self.case.devices)
        rank = [self.model.new_int_var(0, m - 1, f"rank{d}") for d in range(m)]
        for d, e in itertools.permutations(range(m), 2):
            before = self.model.new_bool_var(f"before{d}_{e}")
            self.model.add(rank[d] + 1 <= rank[e]).only_enforce_if(before)
            for u, v in self.blocks.edges:
                self.model.add_bool_or([self.x[u][d].negated(), self.x[v][e].negated(), before])

    def _hint(self, first: tuple[Stage, ...]) -> None:
        device_of = {v: stage.devices[0] for stage in first for v in stage.operators}
        for b, row in enumerate(self.x):
            for d, entry in enumerate(row):
                if self.blocks.seconds[b, d] < float("inf"):
                    self.model.add_hint(entry, int(device_of[self.blocks.members[b][0]] == d))


def _everything(case: LoadCase) -> float:
    """Return a load that no plan passes: all on its slowest device, and every signal both ways."""
    import numpy as np

    seconds = np.where(np.isfinite(case.seconds), case.seconds, 0.0).max(axis=1).sum()
    apart = ~np.eye(len(case.devices), dtype=bool)
    pace = max(float(paces[apart].max(initial=0.0)) for paces in (case.send_seconds, case.receive_seconds))
    return float(seconds) + 2 * pace * sum(signal.size for signal in case.graph.signals)
