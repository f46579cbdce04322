"""A network, devices and a request become a plan: solve, verify, explain."""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec

from isthmus.errors import NoPlan
from isthmus.model.device import DeviceDescriptor
from isthmus.model.leakage import LeakageReport
from isthmus.model.network import NetworkProfile
from isthmus.model.slicing import SlicePlan
from isthmus.planning.slicing import build, choose, guarded, loosened, verify
from isthmus.planning.slicing.choose import AnyCase
from isthmus.planning.slicing.document import document
from isthmus.planning.slicing.leakage import check, leaky
from isthmus.planning.slicing.problem import Problem, problem
from isthmus.planning.slicing.request import Request
from isthmus.planning.slicing.solution import Solution, Stage

KEPT = "the plan in force, kept"


def make_plan(
    profile: NetworkProfile,
    devices: Sequence[DeviceDescriptor],
    request: Request,
    *,
    leakage: LeakageReport | None = None,
    current: SlicePlan | None = None,
    threshold: float = 0.05,
) -> SlicePlan:
    """Return the best plan found, its bound, and why each device is used or not.

    ``leakage``: what was measured of the network's tensors; where the policy limits what activations give
    away, those that leave must have been measured, each by itself and all together.
    ``current``: the plan in force; it is kept where it still holds, leaks no more than the policy allows by
    these figures, and the best one gains less than ``threshold``.

    Raises:
        InvalidCase: the network, the devices or their links cannot be planned with, or the figures are of
            another network or of too few samples.
        NoPlan: no plan meets every constraint; the message says what would make one.
        PlanUnsound: a method's plan did not pass the verifier.
    """
    until = time.perf_counter() + request.time_limit_seconds
    if leakage is not None:
        check(profile, leakage)
    given = _given(profile, devices, request, leakage)
    try:
        solution = guarded.solve(given, leakage)
    except NoPlan as error:
        raise loosened.explain(given, request, leakage, error, until) from error
    case = build.case_of(given)
    if current is not None:
        solution = _stable(given, case, solution, current, threshold, leakage)
    return document(given, case, solution, leakage)


def _given(
    profile: NetworkProfile,
    devices: Sequence[DeviceDescriptor],
    request: Request,
    report: LeakageReport | None,
) -> Problem:
    kept = request.leaky | leaky(profile, request.policy, report, cast=request.cast)
    return problem(profile, devices, msgspec.structs.replace(request, leaky=kept))


def _stable(
    given: Problem,
    case: AnyCase,
    best: Solution,
    current: SlicePlan,
    threshold: float,
    report: LeakageReport | None,
) -> Solution:
    """Return the plan in force with the best one's bound, where it is allowed and worse by less than the threshold."""
    stages = _stages_of(given, current)
    value = choose.value_of(case, stages) if stages is not None else None
    if stages is None or value is None or value > best.value * (1 + threshold):
        return best
    if guarded.offence(given, stages, report) is not None:
        return best
    return Solution(
        stages,
        value,
        min(best.bound, value),
        f"{KEPT} ({best.method} gains less than {threshold:.0%})",
        value <= best.bound * (1 + verify.TOLERANCE),
        seconds=best.seconds,
        given_up=best.given_up,
    )


def _stages_of(given: Problem, plan: SlicePlan) -> tuple[Stage, ...] | None:
    """Return a plan's slices as stages of this problem; None when it names a device or operators that are gone."""
    names = {name: d for d, name in enumerate(given.names)}
    if plan.network_digest != given.profile.digest or plan.network != given.profile.name:
        return None
    stages, holds_input = [], False
    for entry in plan.slices:
        if any(replica.device not in names for replica in entry.replicas):
            return None
        operators = [v + 1 for start, end in entry.ranges for v in range(start, end)]
        devices = tuple(names[replica.device] for replica in entry.replicas)
        if given.source in devices and not holds_input:
            operators, holds_input = [0, *operators], True
        stages.append(Stage(tuple(operators), devices, tuple(r.share for r in entry.replicas)))
    if not holds_input:
        stages.insert(0, Stage((0,), (given.source,)))
    return tuple(stages)
