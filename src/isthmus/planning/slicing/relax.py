"""Why a case has no plan: what cannot be met, by how much, and the least that would make a plan possible.

Only what makes a plan possible is looked at, never what it costs: where operators may run, memory, links, and whether
slices are contiguous. What is asked of every family is the least memory that one device must have when all else stays,
the least factor for the memory of all, and the fewest operators that one device has to run beside those that it may:
each is a case of the same family with other numbers, and is solved by the family's own method. Every remedy that
is named has a plan, which the verifier has seen.
"""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from isthmus.planning.slicing import remedy
from isthmus.planning.slicing.case import Case, Graph, LoadCase, Signal, SumCase
from isthmus.planning.slicing.remedy import Remedy
from isthmus.planning.slicing.step_case import StepCase

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from isthmus.planning.slicing.case import Floats
    from isthmus.planning.slicing.solution import Stage

SECONDS = 10.0


@dataclass(frozen=True)
class Least:
    """``stages``: the plan that passes what was asked by least, None where none was found. ``proven``: that no other
    passes it by less, or that there is none."""

    stages: tuple[Stage, ...] | None
    proven: bool


class Family(Protocol):
    """Questions to a method about an impossible case. ``allowed``: bool ``[n, m]``."""

    @property
    def case(self) -> LoadCase | StepCase:
        """The case that is asked about."""

    @property
    def allowed(self) -> NDArray[np.bool_]:
        """Where operators may run."""

    def kinds(self) -> Sequence[tuple[int, ...]]:
        """Return devices that are alike: what helps one helps any other of its kind."""

    def any_plan(self) -> Least:
        """Look for a plan of the case as it is."""

    def memory_of(self, device: int) -> Least:
        """Minimise the bytes that one device holds, as if it had room for all."""

    def memory_of_all(self) -> Least:
        """Minimise the largest part of its memory that a device holds, as if it had room for all."""

    def newly_on(self, device: int) -> Least:
        """Minimise the number of operators that one device runs and may not."""

    def needs(self, stages: Sequence[Stage]) -> dict[int, float]:
        """Return the bytes that each used device holds."""

    def with_room(self, room: Floats) -> Family:
        """Return the case with other capacities."""

    def with_allowed(self, pairs: Sequence[tuple[int, int]]) -> Family:
        """Return the case in which these operators may run on these devices too."""

    def broken(self, stages: Sequence[Stage]) -> list[str]:
        """Return what the verifier finds wrong."""

    def others(self) -> list[Remedy]:
        """Return remedies of the family alone: links, slices that need not be contiguous."""


def explain(case: Case | StepCase, *, time_limit_seconds: float = SECONDS) -> str:
    """Return why there is no plan, in words; empty when one was found here."""
    from isthmus.planning.slicing import relax_sums

    if isinstance(case, SumCase):
        return relax_sums.explain(case, time_limit_seconds=time_limit_seconds)
    if isinstance(case, LoadCase):
        _ready(case.contiguous or case.replicated)
    until = time.perf_counter() + time_limit_seconds
    family = family_of(case, until)
    if reason := remedy.nowhere(case.graph, case.devices, family.allowed):
        return reason
    first = family.any_plan()
    if first.stages is not None:
        return ""
    said = remedy.sentence(remedies(family, until))
    if not said:
        return relax_sums.unknown(time_limit_seconds)
    return said if first.proven else f"no plan was found where one was looked for: {said}"


@functools.cache
def _ready(pipelines: bool) -> None:
    """Load a family's libraries, and compile what a new installation has not compiled yet: on a busy machine that takes
    longer than some searches, and is no part of them."""
    import numpy as np

    two, free = np.ones((2, 2)), np.full(2, np.inf)
    chain = Graph(("a", "b"), (Signal(0, (1,), 1.0),))
    case = LoadCase(chain, ("x", "y"), two, np.ones(2), free, two, two, contiguous=pipelines)
    family_of(case, time.perf_counter() + SECONDS).any_plan()


def family_of(case: LoadCase | StepCase, until: float) -> Family:
    """Return what answers for a case; ``until``: of ``time.perf_counter``, when searches without an end of their own
    stop."""
    from isthmus.planning.slicing import relax_load, relax_step

    if isinstance(case, StepCase):
        return relax_step.Steps(case)
    if case.contiguous or case.replicated:
        return relax_load.Pipelines(case, until)
    return relax_load.Anywhere(case, until)


def remedies(family: Family, until: float) -> list[Remedy]:
    """Return what would make a plan possible, one remedy of each kind that does; two things where one is not enough."""
    found = _memory(family, until) or [*family.others(), *_allowed(family, until)]
    return found or _on_each(family) or _both(family, until)


def _memory(family: Family, until: float) -> list[Remedy]:
    """More memory on the one device where least of it is needed, or on all."""
    import numpy as np

    room, best, complete = family.case.capacity_bytes, [], True
    for members in family.kinds():
        if not np.isfinite(room[members[0]]):
            continue
        if time.perf_counter() > until:
            complete = False
            break
        least = family.memory_of(members[0])
        complete = complete and least.proven
        if least.stages is not None:
            needed = family.needs(least.stages)[members[0]]
            best.append((remedy.more_bytes(needed, float(room[members[0]])), needed, members, least))
    found = [_on_one(family, *min(best, key=lambda entry: entry[0]), complete=complete)] if best else []
    return [entry for entry in (*found, _on_all(family)) if entry is not None]


def _on_one(
    family: Family, more: int, needed: float, members: tuple[int, ...], least: Least, *, complete: bool
) -> Remedy | None:
    case, name = family.case, remedy.one_of([family.case.devices[d] for d in members])
    room = case.capacity_bytes.copy()
    missing = f"needs {remedy.size(needed)} on {name}, which has {remedy.size(float(room[members[0]]))}"
    room[members[0]] += more
    return _seen(family.with_room(room), least, missing, f"{remedy.size(more)} more on {name}", complete)


def _on_all(family: Family) -> Remedy | None:
    import numpy as np

    least, room, names = family.memory_of_all(), family.case.capacity_bytes, family.case.devices
    if least.stages is None:
        return None
    needs = {d: needed for d, needed in family.needs(least.stages).items() if np.isfinite(room[d])}
    short = {names[d]: needed for d, needed in needs.items() if needed > room[d] * (1 + 1e-9)}
    if not short:
        return None
    # At least 1: 0 times memory without a limit is no number.
    times = max(
        1.0, remedy.factor(max((needed / room[d] for d, needed in needs.items() if room[d]), default=1.0))
    )
    missing = f"devices are short of memory together: as much as {remedy.every_device(short)} is needed"
    would_do = f"{times:g} times the memory on every device"
    return _seen(family.with_room(room * times), least, missing, would_do, least.proven)


def _on_each(family: Family) -> list[Remedy]:
    """So many bytes more on each of several devices: what a factor cannot do for one that has none."""
    import numpy as np

    room, names = family.case.capacity_bytes, family.case.devices
    least = family.with_room(np.full(len(room), np.inf)).any_plan()
    needs = family.needs(least.stages) if least.stages is not None else {}
    more = {d: remedy.more_bytes(needed, float(room[d])) for d, needed in needs.items() if needed > room[d]}
    if not more:
        return []
    short = {names[d]: needs[d] for d in more}
    missing = f"devices are short of memory together: as much as {remedy.every_device(short)} is needed"
    would_do = " and ".join(f"{remedy.size(extra)} more on {names[d]}" for d, extra in more.items())
    roomy = room.copy()
    roomy[list(more)] += list(more.values())
    found = _seen(family.with_room(roomy), least, missing, would_do, proven=False)
    return [found] if found is not None else []


def _allowed(family: Family, until: float) -> list[Remedy]:
    """Operators that one device would have to run beside those that it may: as few as possible."""
    best, complete = [], True
    for members in family.kinds():
        if time.perf_counter() > until:
            complete = False
            break
        least = family.newly_on(members[0])
        complete = complete and least.proven
        # None new: a plan as it is, or one of a method that does not look at all of them.
        if least.stages is not None and (pairs := _new_pairs(family, least.stages)):
            best.append((len(pairs), pairs, least))
    if not best:
        return []
    _, pairs, least = min(best, key=lambda entry: entry[0])
    names, device = family.case.graph.names, family.case.devices[pairs[0][1]]
    ran = remedy.some([names[v] for v, _ in pairs])
    missing = "no plan within memory keeps every operator where it may run"
    found = _seen(family.with_allowed(pairs), least, missing, f"running {ran} on {device}", complete)
    return [found] if found is not None else []


def _new_pairs(family: Family, stages: Sequence[Stage]) -> list[tuple[int, int]]:
    return [(v, d) for s in stages for v in s.operators for d in s.devices if not family.allowed[v, d]]


def _both(family: Family, until: float) -> list[Remedy]:
    """What does when memory is no limit, and then the memory that this takes."""
    import numpy as np

    room = family.case.capacity_bytes
    roomy = family.with_room(np.full(len(room), np.inf))
    for first in [*roomy.others(), *_allowed(roomy, until)]:
        changed = family_of(_narrow(first.case), until).with_room(room)
        for second in (_memory(changed, until) or _on_each(changed))[:1]:
            missing = f"{first.missing}; then {second.missing}"
            would_do = f"{first.would_do} and {second.would_do}"
            return [Remedy(missing, would_do, second.case, least=False)]
    return []


def _narrow(case: Case | StepCase) -> LoadCase | StepCase:
    if isinstance(case, SumCase):
        raise TypeError("a remedy leaves a case in its family")
    return case


def _seen(relaxed: Family, least: Least, missing: str, would_do: str, proven: bool) -> Remedy | None:
    """Return the remedy, if the verifier finds nothing wrong with its plan."""
    if least.stages is None or relaxed.broken(least.stages):
        return None
    return Remedy(missing, would_do, relaxed.case, proven)
