"""Why a sum has no plan. Memory and limits are made elastic: a mixed-integer model minimises what they are passed by,
each as a part of itself (Chinneck, "Feasibility and Infeasibility in Optimization", 2008, chapter 6).
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from isthmus.planning.slicing import remedy
from isthmus.planning.slicing.arrays import ROUNDING, limit_excess
from isthmus.planning.slicing.case import Limit, SumCase
from isthmus.planning.slicing.sums_model import build

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from isthmus.planning.slicing.arrays import Ints
    from isthmus.planning.slicing.case import Floats


def explain(case: SumCase, *, time_limit_seconds: float) -> str:
    """Return why there is no plan, in words; empty when one was found here."""
    import numpy as np

    plain = only_feasibility(case)
    allowed = _allowed(plain)
    if reason := remedy.nowhere(case.graph, case.devices, np.isfinite(plain.cost)) or _tiers(plain, allowed):
        return reason
    device_of, finished = least_overrun(plain, time_limit_seconds)
    if device_of is None:
        return _links(plain, time_limit_seconds) if finished else unknown(time_limit_seconds)
    passed = [*_memory(case, device_of), *_limits(case, device_of)]
    if not passed:
        return ""
    missing, more = (" and ".join(part) for part in zip(*passed, strict=True))
    return f"{missing}; {more} would make a plan possible{'' if finished else '; less may do'}"


def only_feasibility(case: SumCase) -> SumCase:
    """Return the case with costs that are 0 or infinite; what a limit cannot count is infinite too."""
    parts: list[SumCase | Limit] = [case, *case.limits]
    return dataclasses.replace(
        case,
        cost=_zero_or_infinite([part.cost for part in parts]),
        link_fixed=_zero_or_infinite([part.link_fixed for part in parts]),
        link_per_size=_zero_or_infinite([part.link_per_size for part in parts]),
    )


def _zero_or_infinite(matrices: list[Floats]) -> Floats:
    import numpy as np

    return np.where(np.isfinite(sum(matrices)), 0.0, np.inf)


def _allowed(case: SumCase) -> NDArray[np.bool_]:
    import numpy as np

    found: NDArray[np.bool_] = np.isfinite(case.graph.arrays.sum_blocks(case.cost))
    return found


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


def least_overrun(case: SumCase, seconds: float) -> tuple[Ints | None, bool]:
    """Return the assignment of blocks that passes memory and limits by least, and whether that is proven."""
    model = build(case, elastic="each")
    if model is None:
        return None, False
    outcome = model.programme.solve(seconds)
    return model.read(outcome), outcome.finished


def _memory(case: SumCase, device_of: Ints) -> list[tuple[str, str]]:
    """Return what each device lacks, and what would do."""
    on = device_of[case.graph.arrays.block_of]
    said = []
    for d, name in enumerate(case.devices):
        needs, has = float(case.memory_bytes[on == d].sum()), float(case.capacity_bytes[d])
        if needs > has * (1 + ROUNDING):
            missing = (
                f"needs {remedy.size(needs)} for {int((on == d).sum())} operators on {name}, which has "
                f"{remedy.size(has)}"
            )
            said.append((missing, f"{remedy.size(remedy.more_bytes(needs, has))} more on {name}"))
    return said


def _limits(case: SumCase, device_of: Ints) -> list[tuple[str, str]]:
    said = []
    for limit in case.limits:
        excess = limit_excess(case.graph, limit, device_of)
        if excess > 0:
            missing = (
                f"{limit.name} would have to be {limit.most + excess:.6g} {limit.unit} or more, where at most "
                f"{limit.most:.6g} {limit.unit} is allowed"
            )
            # Rounded up: what is named has to do.
            said.append((missing, f"{upward(excess)} {limit.unit} more"))
    return said


def upward(value: float) -> str:
    """Return a number with three significant digits, rounded up."""
    if value <= 0:
        return "0"
    unit = 10.0 ** (math.floor(math.log10(value)) - 2)
    return f"{math.ceil(value / unit * (1 - 1e-9)) * unit:.3g}"


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
        return unknown(seconds)
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
    return (
        f"no link carries {remedy.some(said)}; a link from {remedy.some(list(links))} would make a plan possible"
        + ("" if np.isinf(case.capacity_bytes).all() and not case.limits else " as far as links go")
    )


def unknown(seconds: float) -> str:
    """Return what is said when nothing was proven."""
    return f"no plan was found, and in {seconds:g} s no proof of what stands against one; allow more time"


def _name(case: SumCase, block: int) -> str:
    return case.graph.names[case.graph.colocated[block][0]]
