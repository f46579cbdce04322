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
LEAST_SECONDS = 1.0
"""Of a search; the first one may have taken all the time that was given."""


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
        NoPlan: none is possible, or none was found in ``2 * MOST_ROUNDS`` plans; the message says what crosses.
        PlanUnsound: a method's plan did not pass the verifier.
    """
    started = time.perf_counter()
    seconds = SEARCH_SHARE * given.request.time_limit_seconds
    until = started + seconds
    first = choose.solve(build.case_of(given), time_limit_seconds=seconds)
    if offence(given, first.stages, report) is None:
        return first
    found = _search(given, first, report, until)
    if given.request.objective == "throughput" and not given.request.contiguous and not found.exact:
        found = _or_contiguous(given, found, report)
    return replace(found, seconds=time.perf_counter() - started)


def _or_contiguous(given: Problem, found: Solution, report: LeakageReport | None) -> Solution:
    """Slices that need not be contiguous may be: a pipeline sends less, and its search keeps less inside."""
    request = structs.replace(given.request, contiguous=True)
    try:
        other = solve(replace(given, request=request), report)
    except NoPlan:
        return found
    if other.value >= found.value:
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
    waiting = [_Tried(first.value, 0, given, first)]
    tried, skipped, reasons = {(given.inside, given.outside)}, float("inf"), list[str]()
    for number in range(2 * MOST_ROUNDS):
        if not waiting:
            raise NoPlan("; ".join(list(dict.fromkeys(reasons))[:NAMED]))
        best = heapq.heappop(waiting)
        found = offence(best.given, best.solution.stages, report)
        if found is None:
            left = min((entry.solution.bound for entry in waiting), default=float("inf"))
            return _proven(best.solution, min(left, skipped), number)
        reasons.append(found.reason)
        late = number >= MOST_ROUNDS or time.perf_counter() > until
        if late or not found.complete:
            skipped = min(skipped, best.solution.bound)
        for problem, solution in _children(best, (found.all,) if late else found.ways, tried, until):
            if solution is None:
                skipped = min(skipped, best.solution.bound)
            else:
                heapq.heappush(waiting, _Tried(solution.value, len(tried), problem, solution))
    raise NoPlan(f"none of {2 * MOST_ROUNDS} plans may be carried out: {reasons[-1]}")


def _children(
    parent: _Tried,
    ways: Sequence[Way],
    tried: set[tuple[frozenset[int], frozenset[int]]],
    until: float,
) -> Iterator[tuple[Problem, Solution | None]]:
    """Yield each way's best plan; None where it is not proven that there is none, nothing where it is."""
    for way in ways:
        problem = placed(parent.given, way.inside, way.outside)
        if (problem.inside, problem.outside) in tried:
            continue
        tried.add((problem.inside, problem.outside))
        seconds = max(until - time.perf_counter(), LEAST_SECONDS)
        started = time.perf_counter()
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
