"""Exact sums by a mixed-integer model and HiGHS: any links, memory, co-location and limits.

What the linear relaxation proves is handed out with the plan, as multipliers that anybody can count again.
"""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

from isthmus.errors import NoPlan
from isthmus.planning.slicing import cut, descent, dual_check, sums_model
from isthmus.planning.slicing.arrays import broken, score, stages_of
from isthmus.planning.slicing.solution import DualCertificate, Solution

if TYPE_CHECKING:
    from isthmus.planning.slicing.arrays import Ints
    from isthmus.planning.slicing.case import SumCase
    from isthmus.planning.slicing.mip import Outcome

METHOD = "mixed-integer model"
EXACT = 1e-9
CERTIFICATE_SECONDS = 5.0
MOST_CERTIFIED = 60_000
"""Of pair variables; a check in whole numbers looks at each."""
MARGIN = 5e-10
"""Relative; HiGHS's bound is a sum of floats and is rounded down by it."""


def best(case: SumCase, *, time_limit_seconds: float) -> Solution:
    """Return the best plan: by a minimum cut where that is exact, and the mixed-integer model otherwise.

    Raises:
        NoPlan: none is possible; the message says what would make one.
    """
    if cut.applies(case):
        return solve(case, time_limit_seconds=time_limit_seconds)
    found = cut.minimum_cut(case)
    return found if found.exact else solve(case, time_limit_seconds=time_limit_seconds, warm=found)


def solve(case: SumCase, *, time_limit_seconds: float, warm: Solution | None = None) -> Solution:
    """Return the best plan found within the time limit, with a proven bound.

    ``warm``: another method's plan, whose bound is used too; it may break limits, and then starts a search for one
    that does not.

    Raises:
        NoPlan: none is possible, or none was found in time; the message says what would make one.
    """
    if warm is not None and warm.exact:
        return warm
    started = time.perf_counter()
    bound = max(_least(case), 0.0 if warm is None else warm.bound)
    given = None if warm is None else _by_block(case, warm)
    start = descent.improve(case, given, seconds=time_limit_seconds / 5)
    device_of, proven, finished = _search(case, start, until=started + time_limit_seconds)
    certificate = _certificate(case, started + time_limit_seconds) if finished is not None else None
    bound = max(bound, proven, certificate.bound if certificate is not None else 0.0)
    given_up = _given_up(finished, time_limit_seconds)
    if device_of is None:
        raise _no_plan(case, given_up)
    value = score(case.graph, device_of, case.cost, case.link_fixed, case.link_per_size)
    bound = min(bound, value)
    exact = value <= bound * (1 + EXACT)
    return Solution(
        stages=stages_of(case.graph, device_of),
        value=value,
        bound=bound,
        method=METHOD,
        exact=exact,
        seconds=time.perf_counter() - started,
        given_up="" if exact else given_up,
        certificate=certificate,
    )


def _certificate(case: SumCase, until: float) -> DualCertificate | None:
    """Return what the relaxation proves, counted by the check that anybody can make; None without time for it."""
    left = min(until - time.perf_counter(), CERTIFICATE_SECONDS)
    model = sums_model.build(case) if left > 0 else None
    if model is None or model.pair.size + model.sent.size > MOST_CERTIFIED:
        return None
    found = model.certificate(model.programme.solve(left, relaxed=True))
    return dataclasses.replace(found, bound=dual_check.proven(case, found)) if found is not None else None


def _least(case: SumCase) -> float:
    """Return what blocks cost at least, each on its cheapest device, and transfers nothing."""
    import math

    least = float(case.graph.arrays.sum_blocks(case.cost).min(axis=1).sum())
    return least * (1 - MARGIN) if least < math.inf else 0.0


def _by_block(case: SumCase, solution: Solution) -> Ints:
    import numpy as np

    device_of = solution.device_of(len(case.graph.names))
    return np.array([device_of[members[0]] for members in case.graph.colocated])


def _given_up(finished: bool | None, seconds: float) -> str:
    if finished is None:
        return f"a model of over {sums_model.MOST_COLUMNS:,} pair variables was not built; the plan is by descent"
    if not finished:
        return f"the search ended at its time limit of {seconds:g} s"
    return "HiGHS's tolerances leave the last digits open"


def _no_plan(case: SumCase, given_up: str) -> NoPlan:
    from isthmus.planning.slicing.relax import explain

    reason = explain(case)
    return NoPlan(reason or f"no plan that keeps every limit was found: {given_up}; allow more time")


def _search(case: SumCase, start: Ints | None, *, until: float) -> tuple[Ints | None, float, bool | None]:
    """Return an assignment of blocks, a bound, and whether time sufficed; None when no model was built.

    A plan that passes a limit by no more than the solver's tolerance is searched again under a stricter limit; the
    first bound stays.
    """
    bound, strict = 0.0, 0.0
    for attempt in range(3):
        model = sums_model.build(case, tighter=strict)
        if model is None:
            return start, bound, None
        left = until - time.perf_counter()
        first = None if start is None or strict else model.start(case, start)
        outcome = model.programme.solve(left, first)
        if not attempt:
            bound = _rounded_down(outcome)
        device_of = model.read(outcome)
        if device_of is None or not broken(case, device_of):
            break
        device_of, strict = None, 1e-8 * 10**attempt
    return _better(case, device_of, start), bound, outcome.finished


def _rounded_down(outcome: Outcome) -> float:
    return max(0.0, outcome.bound * (1 - MARGIN)) if outcome.feasible else 0.0


def _better(case: SumCase, found: Ints | None, start: Ints | None) -> Ints | None:
    both = [entry for entry in (found, start) if entry is not None]
    return min(
        both,
        key=lambda entry: score(case.graph, entry, case.cost, case.link_fixed, case.link_per_size),
        default=None,
    )
