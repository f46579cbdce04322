"""Why a case has no plan: what cannot be met, by how much, and the least that would make a plan possible.

Only what makes a plan possible is looked at, never what it costs: where operators may run, tiers, memory, limits,
links, and whether slices are contiguous. Memory and limits are made elastic: a mixed-integer model
minimises what they are passed by, each as a part of itself (Chinneck, "Feasibility and Infeasibility in
Optimization", 2008, chapter 6).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from isthmus.model.units import format_bytes
from isthmus.planning.slicing.arrays import limit_excess, stages_of
from isthmus.planning.slicing.case import Case, Limit, LoadCase, SumCase
from isthmus.planning.slicing.sums import build
from isthmus.planning.slicing.verify import violations

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from isthmus.planning.slicing.arrays import Ints
    from isthmus.planning.slicing.case import Floats

SECONDS = 10.0
NAMED = 3
"""So many operators or transfers are named in a sentence, and the others counted."""


def explain(case: Case, *, time_limit_seconds: float = SECONDS) -> str:
    """Return why there is no plan, in words; empty when one was found here.

    Of a contiguous case it is taken that the caller found none: whether slices can be contiguous is only
    looked at in the one plan that is found without.
    """
    plain = _only_feasibility(case)
    allowed = _allowed(plain)
    if reason := _nowhere(case, allowed) or _tiers(plain, allowed):
        return reason
    device_of, finished = _least_overrun(plain, time_limit_seconds)
    if device_of is None:
        return _links(plain, time_limit_seconds) if finished else _unknown(time_limit_seconds)
    passed = [*_memory(case, device_of), *_limits(case, device_of)]
    loose = isinstance(case, LoadCase) and any("no pipeline" in entry for entry in _broken(case, device_of))
    if not passed:
        return _not_contiguous() if loose else ""
    ends = ["", " for slices that need not be contiguous"][loose] + ["; less may do", ""][finished]
    return "; ".join(passed) + ends


def _only_feasibility(case: Case) -> SumCase:
    """Return the case with costs that are 0 or infinite; what a limit cannot count is infinite too."""
    import numpy as np

    if isinstance(case, LoadCase):
        link = np.zeros_like(case.send_seconds)
        costs, links, sized = [case.seconds], [link], [case.send_seconds, case.receive_seconds]
    else:
        parts: list[SumCase | Limit] = [case, *case.limits]
        costs = [part.cost for part in parts]
        links, sized = [part.link_fixed for part in parts], [part.link_per_size for part in parts]
    return SumCase(
        graph=case.graph,
        devices=case.devices,
        cost=_zero_or_infinite(costs),
        memory_bytes=case.memory_bytes,
        capacity_bytes=case.capacity_bytes,
        link_fixed=_zero_or_infinite(links),
        link_per_size=_zero_or_infinite(sized),
        monotone=isinstance(case, SumCase) and case.monotone,
        limits=case.limits if isinstance(case, SumCase) else (),
    )


def _zero_or_infinite(matrices: list[Floats]) -> Floats:
    import numpy as np

    return np.where(np.isfinite(sum(matrices)), 0.0, np.inf)


def _allowed(case: SumCase) -> NDArray[np.bool_]:
    import numpy as np

    found: NDArray[np.bool_] = np.isfinite(case.graph.arrays.sum_blocks(case.cost))
    return found


def _nowhere(case: Case, allowed: NDArray[np.bool_]) -> str:
    """Name operators that no device may run, alone or with what they are co-located with."""
    import numpy as np

    cost = _only_feasibility(case).cost
    names, said = case.graph.names, []
    for block in np.flatnonzero(~allowed.any(axis=1)):
        members = case.graph.colocated[block]
        alone = [v for v in members if not np.isfinite(cost[v]).any()]
        if alone or len(members) == 1:
            said.append(f"{names[alone[0]]} may not or cannot run on any of {', '.join(case.devices)}")
            continue
        where = (
            f"{names[v]} on {' or '.join(case.devices[d] for d in np.flatnonzero(np.isfinite(cost[v])))} only"
            for v in members
            if not np.isfinite(cost[v]).all()
        )
        said.append(f"operators that must be on one device can run on none together: {_some(list(where))}")
    return f"{_some(said)}; a device that can run it would make a plan possible" if said else ""


def _tiers(case: SumCase, allowed: NDArray[np.bool_]) -> str:
    """Put every block on the earliest tier that what it reads allows; name one for which there is none."""
    import numpy as np

    if not case.monotone:
        return ""
    first = allowed.argmax(axis=1)
    waiting = True
    while waiting:
        waiting = False
        for u, v in case.graph.arrays.edges.tolist():
            if first[v] >= first[u]:
                continue
            later = np.flatnonzero(allowed[v, first[u] :])
            if not len(later):
                tier, last = case.devices[first[u]], case.devices[np.flatnonzero(allowed[v])[-1]]
                return (
                    f"{_name(case, v)} reads what comes from {tier} at the earliest, and can run on {last} at "
                    f"the latest, an earlier tier; running it on {tier}, or letting data go back, would make a plan "
                    "possible"
                )
            first[v] = first[u] + later[0]
            waiting = True
    return ""


def _least_overrun(case: SumCase, seconds: float) -> tuple[Ints | None, bool]:
    """Return the assignment of blocks that passes memory and limits by least, and whether that is proven."""
    model = build(case, elastic=True)
    if model is None:
        return None, False
    outcome = model.programme.solve(seconds)
    return model.read(outcome), outcome.finished


def _memory(case: Case, device_of: Ints) -> list[str]:
    import numpy as np

    on = device_of[case.graph.arrays.block_of]
    said = []
    for d, name in enumerate(case.devices):
        needs, has = float(case.memory_bytes[on == d].sum()), float(case.capacity_bytes[d])
        if needs > has * (1 + 1e-9):
            more = format_bytes(int(np.ceil(needs - has)))
            said.append(
                f"needs {format_bytes(int(np.ceil(needs)))} for {int((on == d).sum())} operators on {name}, which has "
                f"{format_bytes(int(has))}; {more} more on {name} would make a plan possible"
            )
    return said


def _limits(case: Case, device_of: Ints) -> list[str]:
    said = []
    for limit in case.limits if isinstance(case, SumCase) else ():
        excess = limit_excess(case.graph, limit, device_of)
        if excess > 0:
            said.append(
                f"needs a {limit.name} of {limit.most + excess:.6g} {limit.unit} where at most {limit.most:.6g} "
                f"{limit.unit} is allowed; {excess:.3g} {limit.unit} more would make a plan possible"
            )
    return said


def _links(case: SumCase, seconds: float) -> str:
    """Name the fewest transfers that no link carries."""
    import numpy as np

    missing = np.isinf(case.link_fixed) | (
        np.isinf(case.link_per_size) & bool((case.graph.arrays.size > 0).any())
    )
    open_ = dataclasses.replace(
        case,
        link_fixed=missing.astype(float),
        link_per_size=np.zeros_like(case.link_per_size),
        capacity_bytes=np.full(len(case.devices), np.inf),
        limits=(),
    )
    model = build(open_)
    device_of = model.read(model.programme.solve(seconds)) if model is not None else None
    if device_of is None:
        return _unknown(seconds)
    graph = case.graph.arrays
    source, target = device_of[graph.producer[graph.signal]], device_of[graph.consumer]
    lost = np.flatnonzero((source != target) & missing[source, target])
    said = [
        f"{_name(case, graph.producer[graph.signal[k]])} on {case.devices[source[k]]} to "
        f"{_name(case, graph.consumer[k])} on {case.devices[target[k]]}"
        for k in lost
    ]
    links = dict.fromkeys(f"{case.devices[source[k]]} to {case.devices[target[k]]}" for k in lost)
    if not links:
        return "memory, limits and links cannot be met together; links between all devices would make a plan possible"
    return f"no link carries {_some(said)}; a link from {_some(list(links))} would make a plan possible" + (
        "" if np.isinf(case.capacity_bytes).all() and not case.limits else " as far as links go"
    )


def _broken(case: LoadCase, device_of: Ints) -> list[str]:
    return violations(case, stages_of(case.graph, device_of))


def _not_contiguous() -> str:
    return (
        "every operator has its place within memory and links, but not in contiguous slices; "
        "slices that need not be contiguous would make a plan possible"
    )


def _unknown(seconds: float) -> str:
    return f"no plan was found, and in {seconds:g} s no proof of what stands against one; allow more time"


def _name(case: SumCase, block: int) -> str:
    return case.graph.names[case.graph.colocated[block][0]]


def _some(said: list[str]) -> str:
    rest = len(said) - NAMED
    return ", ".join(said[:NAMED]) + (f" and {rest} more" if rest > 0 else "")
