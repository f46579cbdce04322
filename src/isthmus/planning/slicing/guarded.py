"""The best plan whose cut gives away no more than the policy allows, all that leaves taken together.

That what reads raw inputs, or what surely leaves and leaks, stays inside is a constraint of each case. Whatever
else leaves is judged after a case was solved: where it is too much, the case is solved again with one of the
tensors kept from leaving, for each of them in turn, the best plan first, until one passes.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from msgspec import structs

from isthmus.errors import NoPlan
from isthmus.model.leakage import LeakageReport
from isthmus.planning.slicing import build, choose, leakage, verify
from isthmus.planning.slicing.divided import divisible
from isthmus.planning.slicing.exposure import crossing, places, zones
from isthmus.planning.slicing.problem import Problem, placed
from isthmus.planning.slicing.solution import Solution, Stage

MOST_ROUNDS = 24
"""Plans that are judged, each tensor tried by itself; after so many, what reads a cut is kept inside as a whole."""
MOST_TENSORS = 4
"""What reads a wider cut is kept inside as a whole from the start."""
NAMED = 3
"""So many refusals are told."""
SEARCH_SHARE = 0.75
"""Of the time limit; the rest is for the case's numbers, the verifier, and what the plan is compared with."""
CONTIGUOUS_SHARE = 0.25
"""Of the time limit; for slices that need not be contiguous, the part of the search that they are tried in."""
LEAST_SECONDS = 1.0
"""Of a search, or a quarter of the time limit; the first one may have taken all the time that was given."""
GRACE = 0.1
"""Of the time limit, beyond the search's share, for keeping more and more inside; then all of it is."""


@dataclass(frozen=True)
class Way:
    """Operators that have to run inside the policy's zones, or outside, for an offence to end."""

    inside: frozenset[int] = frozenset()
    outside: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Offence:
    """What a plan may not do, ``reason``, and what ends it. ``complete``: every plan that is allowed goes one of
    the ways; ``all``: one way that ends it, and keeps the most inside."""

    reason: str
    ways: tuple[Way, ...]
    complete: bool
    all: Way


@dataclass(order=True)
class _Tried:
    value: float
    number: int
    given: Problem = field(compare=False)
    solution: Solution = field(compare=False)


def solve(given: Problem, report: LeakageReport | None) -> Solution:
    """Return the best plan found that the policy allows.

    Raises:
        NoPlan: none is possible, or none was found, not even with all inside that reads what depends on the raw
            input; the message says what crosses.
        PlanUnsound: a method's plan did not pass the verifier.
    """
    started = time.perf_counter()
    until = started + SEARCH_SHARE * given.request.time_limit_seconds
    if not _may_be_contiguous(given):
        found, refused = _solve(given, report, until)
        return replace(found, seconds=time.perf_counter() - started) if refused else found
    sooner = until - CONTIGUOUS_SHARE * given.request.time_limit_seconds
    try:
        found, refused = _solve(given, report, sooner)
    except NoPlan:
        other = _contiguous(given, report, until)
        if other is None:
            raise
        # A bound of contiguous slices does not hold for others.
        bound = min(divisible(build.load_case(given)), other.value)
        given_up = "; ".join(filter(None, [other.given_up, "slices that are not contiguous"]))
        seconds = time.perf_counter() - started
        return replace(other, bound=bound, exact=False, given_up=given_up, seconds=seconds, certificate=None)
    if not refused:
        return found
    if not found.exact:
        found = _better(found, _contiguous(given, report, until))
    return replace(found, seconds=time.perf_counter() - started)


def _solve(given: Problem, report: LeakageReport | None, until: float) -> tuple[Solution, bool]:
    """Return the best plan found that is allowed, and whether others were refused."""
    seconds = max(until - time.perf_counter(), _least_seconds(given))
    first = choose.solve(build.case_of(given), time_limit_seconds=seconds)
    if offence(given, first.stages, report) is None:
        return first, False
    return _search(given, first, report, until), True


def _least_seconds(given: Problem) -> float:
    return min(LEAST_SECONDS, given.request.time_limit_seconds / 4)


def _may_be_contiguous(given: Problem) -> bool:
    """Whether a pipeline's slices need not be contiguous, and something may be refused for what leaks."""
    request = given.request
    outside = any(not request.policy.allows_zone(device.zone) for device in given.devices)
    return outside and request.objective == "throughput" and not request.contiguous


def _contiguous(given: Problem, report: LeakageReport | None, until: float) -> Solution | None:
    """Slices that need not be contiguous may be: a pipeline sends less, and its search keeps less inside."""
    request = structs.replace(given.request, contiguous=True)
    try:
        return _solve(replace(given, request=request), report, until)[0]
    except NoPlan:
        return None


def _better(found: Solution, other: Solution | None) -> Solution:
    """Return the better of two plans; a bound of slices that need not be contiguous holds for both."""
    if other is None or other.value >= found.value:
        return found
    given_up = "; ".join(filter(None, [other.given_up, found.given_up]))
    return replace(
        other, bound=min(found.bound, other.value), exact=False, given_up=given_up, certificate=None
    )


def offence(given: Problem, stages: Sequence[Stage], report: LeakageReport | None) -> Offence | None:
    """Return what of a plan the policy does not allow, or None."""
    request, profile = given.request, given.profile
    if request.policy.may_leave == "everything" and not request.leaky:
        return None
    tensors = crossing(given, stages)
    for tensor in tensors:
        if tensor in request.leaky:
            reason = leakage.refusal(profile, (tensor,), request.policy, report, cast=request.cast)
            return _kept(given, (tensor,), reason or f"{tensor} may not leave", complete=True)
    reason = leakage.refusal(profile, tensors, request.policy, report, cast=request.cast)
    if reason is not None:
        return _kept(given, tensors, reason, complete=not _more(given, tensors, report))
    limited = request.objective == "step" and leakage.limited(request.policy)
    return _gradients(given, stages) if limited else None


def _kept(given: Problem, tensors: Sequence[str], reason: str, *, complete: bool) -> Offence:
    """A tensor does not leave where all that read it stay inside, or what makes it is outside."""
    operators = given.profile.operators
    maker = {name: k for k, operator in enumerate(operators) for name in operator.outputs}
    readers = {
        name: frozenset(k for k, operator in enumerate(operators) if name in operator.inputs)
        for name in tensors
    }
    ways = [Way(inside=readers[name]) for name in tensors]
    ways += [Way(outside=frozenset((maker[name],))) for name in tensors if name in maker]
    everything = Way(inside=frozenset[int]().union(*readers.values()))
    few = len(tensors) <= MOST_TENSORS
    return Offence(reason, tuple(ways) if few else (everything,), few and complete, everything)


def _more(given: Problem, tensors: Sequence[str], report: LeakageReport | None) -> bool:
    """Whether a cut of these tensors and others may leave by the figures, which are estimates."""
    request = given.request
    wider = [cut.tensors for cut in report.cuts if set(tensors) < set(cut.tensors)] if report else []
    return any(
        leakage.refusal(given.profile, cut, request.policy, report, cast=request.cast) is None
        for cut in wider
    )


def _gradients(given: Problem, stages: Sequence[Stage]) -> Offence | None:
    """What is made outside and read inside sends gradients out, which no figure speaks of."""
    policy, operators = given.request.policy, given.profile.operators
    within = [
        all(policy.allows_zone(zone) for zone in zones(given, stages[k])) for k in places(given, stages)
    ]
    telling = leakage.derived(given.profile)
    maker = {name: k for k, operator in enumerate(operators) for name in operator.outputs}
    for k, operator in enumerate(operators):
        for name in operator.inputs if within[k] else ():
            if name in telling and name in maker and not within[maker[name]]:
                inside = Way(inside=frozenset((maker[name],)))
                reason = (
                    f"gradients of {name} would leave {', '.join(policy.zones)}, and figures of leakage say "
                    f"nothing of gradients"
                )
                return Offence(reason, (inside, Way(outside=frozenset((k,)))), True, inside)
    return None


def _search(given: Problem, first: Solution, report: LeakageReport | None, until: float) -> Solution:
    best, waiting = _Tried(first.value, 0, given, first), list[_Tried]()
    tried, skipped, reasons, late = {(given.inside, given.outside)}, float("inf"), list[str](), False
    end = until + GRACE * given.request.time_limit_seconds
    while (found := offence(best.given, best.solution.stages, report)) is not None:
        reasons.append(found.reason)
        if not late and (len(reasons) > MOST_ROUNDS or time.perf_counter() > until):
            # From here on one plan follows another, each with more inside, which ends.
            late, best = True, replace(best, given=placed(given, best.given.inside, ()))
            skipped = min([skipped, *(entry.solution.bound for entry in waiting)])
            waiting.clear()
        if late or not found.complete:
            skipped = min(skipped, best.solution.bound)
        ways = (found.all,) if late else found.ways
        for problem, solution in _children(best, ways, tried, until) if time.perf_counter() < end else ():
            if solution is None:
                skipped = min(skipped, best.solution.bound)
            else:
                heapq.heappush(waiting, _Tried(solution.value, len(tried), problem, solution))
        if not waiting:
            solution = _all_inside(given, report) if late or skipped < float("inf") else None
            if solution is None:
                raise NoPlan("; ".join(list(dict.fromkeys(reasons))[:NAMED]))
            return _proven(solution, skipped, len(reasons))
        best = heapq.heappop(waiting)
    left = min((entry.solution.bound for entry in waiting), default=float("inf"))
    return _proven(best.solution, min(left, skipped), len(reasons))


def _all_inside(given: Problem, report: LeakageReport | None) -> Solution | None:
    """Return a plan with all inside that reads what depends on the raw input: nothing that tells of it leaves."""
    telling = leakage.derived(given.profile)
    readers = (
        k for k, operator in enumerate(given.profile.operators) if telling.intersection(operator.inputs)
    )
    problem = placed(given, readers, ())
    try:
        found = choose.solve(build.case_of(problem), time_limit_seconds=_least_seconds(given))
    except NoPlan:
        return None
    return found if offence(problem, found.stages, report) is None else None


def _children(
    parent: _Tried,
    ways: Sequence[Way],
    tried: set[tuple[frozenset[int], frozenset[int]]],
    until: float,
) -> Iterator[tuple[Problem, Solution | None]]:
    """Yield each way's best plan; None where it is not proven that there is none, nothing where it is.

    When time is up, of several ways the first alone is searched.
    """
    for number, way in enumerate(ways):
        problem = placed(parent.given, way.inside, way.outside)
        if (problem.inside, problem.outside) in tried:
            continue
        started = time.perf_counter()
        if number and started > until:
            yield problem, None
            continue
        tried.add((problem.inside, problem.outside))
        seconds = max(until - started, _least_seconds(problem))
        try:
            yield problem, choose.solve(build.case_of(problem), time_limit_seconds=seconds)
        except NoPlan:
            if not parent.solution.exact or time.perf_counter() - started >= seconds:
                yield problem, None


def _proven(solution: Solution, others: float, refused: int) -> Solution:
    """Return the plan with the bound of all that was solved; its certificate speaks of one case alone."""
    bound = min(solution.bound, others)
    given_up = solution.given_up
    if bound < solution.bound:
        beside = "plans beside those that were refused for what leaks"
        given_up = "; ".join(filter(None, [given_up, beside]))
    return replace(
        solution,
        bound=bound,
        exact=solution.exact and solution.value <= bound * (1 + verify.TOLERANCE),
        method=f"{solution.method}, plans refused for what leaks: {refused}",
        given_up=given_up,
        certificate=None,
    )
