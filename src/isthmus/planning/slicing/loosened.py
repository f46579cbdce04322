"""Why a policy leaves no plan: what would leave without it, what that gives away, and the least that would do."""

from __future__ import annotations

import math
import time

import msgspec

from isthmus.errors import NoPlan
from isthmus.model.leakage import LeakageReport
from isthmus.model.policy import DataPolicy
from isthmus.planning.slicing import guarded, leakage
from isthmus.planning.slicing.exposure import crossing, reached
from isthmus.planning.slicing.problem import Problem, left_out, problem
from isthmus.planning.slicing.request import Request
from isthmus.planning.slicing.solution import Stage

SECONDS = 5.0
"""Of each search for what would do: any plan is enough."""
LEAST_SECONDS = 1.0
"""Of the first of them, however late it is; the others end with the time limit."""
Possible = tuple[Problem, tuple[Stage, ...]]


def explain(
    given: Problem, request: Request, report: LeakageReport | None, error: NoPlan, until: float
) -> NoPlan:
    """Return the error with what the policy has to do with it, and with the devices that run nothing as such.

    ``request``: as it was asked, without what the figures withhold. ``until``: ``time.perf_counter()`` at the end of
    the time limit.
    """
    return NoPlan(f"{_by_policy(given, request, report, error, until)}{left_out(given)}")


def _by_policy(
    given: Problem, request: Request, report: LeakageReport | None, error: NoPlan, until: float
) -> NoPlan:
    policy = request.policy
    outside = [device for device in given.devices if not policy.allows_zone(device.zone)]
    if (
        policy.may_leave == "everything"
        or not outside
        or (policy.may_leave == "activations" and policy.max_leakage_r2 is None)
    ):
        return error
    free = _changed(policy, may_leave="activations", max_leakage_r2=None)
    found = _possible(given, request, free, report, until)
    if found is None:
        return error
    if not leakage.limited(policy):
        return NoPlan(
            f"the policy lets {policy.may_leave} leave {', '.join(policy.zones)}, and no plan keeps all else "
            f"there ({error}); with `may_leave: activations` {reached(*found)}, and a plan is possible"
        )
    least = _least(given, request, report, until)
    tensors = crossing(*(least or found))
    refused = leakage.refusal(given.profile, tensors, policy, report, cast=request.cast)
    if refused is None:
        return error
    # What the search said of the very same cut is said already.
    also = "" if refused in str(error) else f"; as it is: {error}"
    return NoPlan(_said(least or found, policy, report, possible=least is not None) + also)


def _said(found: Possible, policy: DataPolicy, report: LeakageReport | None, *, possible: bool) -> str:
    """Return what would leave, by a plan under the least limit that makes one possible, or under none."""
    given, stages = found
    tensors, cast = crossing(given, stages), given.request.cast
    measured = leakage.figure(given.profile, tensors, report, cast=cast)
    zones, limit = ", ".join(policy.zones), policy.max_leakage_r2
    start = f"no plan keeps what leaves {zones} below R² {limit:g}, as the policy asks"
    if measured is None:
        them = "it was" if len(tensors) == 1 else "together they were"
        cure = leakage.measure_them(tensors) if len(tensors) > 1 else leakage.MEASURE
        return f"{start}: {reached(given, stages)}, and {them} not measured; {cure}"
    rebuilt = f"from which a decoder ({measured.decoder}) rebuilds held-out inputs with R² {measured.r2:.3f}"
    enough = (math.floor(1000 * measured.r2) + 1) / 1000
    cure = (
        f"a limit of {enough:.3f} would make a plan possible"
        if possible and enough <= 1
        else "measure more cuts"
    )
    return f"{start}: {reached(given, stages)}, {rebuilt}; {cure}"


def _least(given: Problem, request: Request, report: LeakageReport | None, until: float) -> Possible | None:
    """Return a plan under the least limit among the measured figures under which there is one, as far as time
    allows."""
    limit = request.policy.max_leakage_r2
    if report is None or limit is None:
        return None
    figures = sorted({cut.r2 for cut in report.cuts if cut.r2 >= limit and cut.cast in ("", request.cast)})
    low, high, best = 0, len(figures), None
    while low < high and (best is None or time.perf_counter() < until):
        # The largest first: where that is not enough, no limit is.
        middle = high - 1 if best is None else (low + high) // 2
        looser = _changed(request.policy, max_leakage_r2=math.nextafter(figures[middle], math.inf))
        found = _possible(given, request, looser, report, until)
        if found is not None:
            best, high = found, middle
        elif best is None:
            return None
        else:
            low = middle + 1
    return best


def _possible(
    given: Problem, request: Request, policy: DataPolicy, report: LeakageReport | None, until: float
) -> Possible | None:
    """Return a plan under another policy, or None."""
    kept = request.leaky | leakage.leaky(given.profile, policy, report, cast=request.cast)
    left = max(until - time.perf_counter(), LEAST_SECONDS)
    seconds = min(SECONDS, request.time_limit_seconds, left)
    asked = msgspec.structs.replace(request, policy=policy, leaky=kept, time_limit_seconds=seconds)
    try:
        looser = problem(given.profile, given.devices, asked)
        return looser, guarded.solve(looser, report).stages
    except NoPlan:
        return None


def _changed(policy: DataPolicy, **changes: object) -> DataPolicy:
    return msgspec.structs.replace(policy, **changes)
