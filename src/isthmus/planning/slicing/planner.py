"""A network, devices and a request become a plan: solve, verify, explain."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from isthmus.errors import NoPlan
from isthmus.model.device import DeviceDescriptor
from isthmus.model.network import NetworkProfile
from isthmus.model.slicing import UNITS, Alternative, Prediction, Reason, Replica, Slice, SlicePlan, Transfer
from isthmus.planning.slicing import build, choose, verify
from isthmus.planning.slicing.case import LoadCase
from isthmus.planning.slicing.request import Request
from isthmus.planning.slicing.solution import Solution, Stage
from isthmus.planning.slicing.step_case import StepCase
from isthmus.planning.slicing.wording import amount

if TYPE_CHECKING:
    from isthmus.planning.slicing.choose import AnyCase

KEPT = "the plan in force, kept"
LEAST_SECONDS = 1e-12
"""Nothing is told apart below a picosecond: a rate stays a number that JSON has."""
MOST_GAP = 1e9
SPLIT_WORK = 1_000_000
"""Operators that are counted again, over all splits of two devices looked at where one device does all."""


def make_plan(
    profile: NetworkProfile,
    devices: Sequence[DeviceDescriptor],
    request: Request,
    *,
    current: SlicePlan | None = None,
    threshold: float = 0.05,
) -> SlicePlan:
    """Return the best plan found, its bound, and why each device is used or not.

    ``current``: the plan in force; it is kept where it still holds and the best one gains less than ``threshold``.

    Raises:
        InvalidCase: the network, the devices or their links cannot be planned with.
        NoPlan: no plan meets every constraint; the message says what would make one.
        PlanUnsound: a method's plan did not pass the verifier.
    """
    given = build.problem(profile, devices, request)
    case = _case(given)
    solution = choose.solve(case, time_limit_seconds=request.time_limit_seconds)
    if current is not None:
        solution = _stable(given, case, solution, current, threshold)
    return _document(given, case, solution)


def _case(given: build.Problem) -> AnyCase:
    if given.request.objective == "throughput":
        return build.load_case(given)
    if given.request.objective == "step":
        return build.step_case(given)
    return build.sum_case(given)


def _stable(
    given: build.Problem, case: AnyCase, best: Solution, current: SlicePlan, threshold: float
) -> Solution:
    """Return the plan in force with the best one's bound, where it is worse by less than the threshold."""
    stages = _stages_of(given, current)
    value = choose.value_of(case, stages) if stages is not None else None
    if stages is None or value is None or value > best.value * (1 + threshold):
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


def _stages_of(given: build.Problem, plan: SlicePlan) -> tuple[Stage, ...] | None:
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


def _document(given: build.Problem, case: AnyCase, solution: Solution) -> SlicePlan:
    stages = sorted(solution.stages, key=lambda stage: min(stage.operators))
    request, unit = given.request, UNITS[given.request.objective]
    inverted = request.objective == "throughput"

    def shown(value: float) -> float:
        return 1 / max(value, LEAST_SECONDS) if inverted else value

    slices, transfers = _slices(given, case, stages), _transfers(given, stages)
    return SlicePlan(
        network=given.profile.name,
        network_digest=given.profile.digest,
        batch=request.batch,
        objective=request.objective,
        unit=unit,
        value=shown(solution.value),
        bound=shown(solution.bound),
        gap=min(solution.gap, MOST_GAP),
        exact=solution.exact,
        method=solution.method,
        given_up=solution.given_up,
        slices=slices,
        transfers=transfers,
        reasons=tuple(_reason(given, case, stages, shown, d) for d in range(len(given.devices))),
        prediction=_prediction(given, case, solution, stages),
        alternatives=tuple(_alternative(given, case, shown, d) for d in range(len(given.devices))),
        best_split=_best_split(given, case, stages, shown),
        certificate=_certificate(solution),
        solve_seconds=solution.seconds,
    )


def _certificate(solution: Solution) -> str:
    from isthmus.planning.slicing.solution import CutCertificate

    if isinstance(solution.certificate, CutCertificate):
        return f"a flow on {len(solution.certificate.arcs):,} arcs whose value no plan is below"
    return ""


def _slices(given: build.Problem, case: AnyCase, stages: Sequence[Stage]) -> tuple[Slice, ...]:
    weights = build.parameter_bytes(given.profile)
    busy = verify.loads(case, stages) if isinstance(case, LoadCase) else {}
    per = given.request.batch if isinstance(case, LoadCase) else 1
    found = []
    for stage in stages:
        operators = [v - 1 for v in stage.operators if v]
        ranges = _ranges(operators)
        seconds = [
            sum(float(given.seconds[v, stage.devices[0]]) for v in range(start, end)) / per
            for start, end in ranges
        ]
        names = [given.profile.operators[v].name for v in (operators[:1] + operators[-1:])] or [
            "raw inputs"
        ] * 2
        memory = int(sum(weights[v] for v in stage.operators))
        replicas = tuple(
            Replica(
                device=given.names[d],
                share=share,
                busy_seconds=busy.get(d, sum(seconds)),
                memory_bytes=memory,
                capacity_bytes=int(case.capacity_bytes[d]),
            )
            for d, share in zip(stage.devices, stage.shares, strict=True)
        )
        found.append(
            Slice(
                ranges=ranges or ((0, 0),),
                replicas=replicas,
                compute_seconds=sum(seconds),
                range_seconds=tuple(seconds) or (0.0,),
                first=names[0],
                last=names[-1],
            )
        )
    return tuple(found)


def _ranges(operators: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Return ascending numbers as half-open ranges."""
    found: list[tuple[int, int]] = []
    for v in operators:
        if found and found[-1][1] == v:
            found[-1] = (found[-1][0], v + 1)
        else:
            found.append((v, v + 1))
    return tuple(found)


def _transfers(given: build.Problem, stages: Sequence[Stage]) -> tuple[Transfer, ...]:
    """Return what crosses from slice to slice, in the order of the slices."""
    slice_of = {v: k for k, stage in enumerate(stages) for v in stage.operators}
    made = dict.fromkeys(given.profile.inputs, 0)
    for v, operator in enumerate(given.profile.operators, start=1):
        made |= dict.fromkeys(operator.outputs, v)
    crossing: dict[tuple[int, int], dict[str, float]] = {}
    for v, operator in enumerate(given.profile.operators, start=1):
        for name in operator.inputs:
            a, b = slice_of[made[name]], slice_of[v]
            if a != b:
                crossing.setdefault((a, b), {})[name] = given.crossing_bytes[name]
    return tuple(_transfer(given, stages, a, b, tensors) for (a, b), tensors in sorted(crossing.items()))


def _transfer(
    given: build.Problem, stages: Sequence[Stage], a: int, b: int, tensors: dict[str, float]
) -> Transfer:
    size = sum(tensors.values())
    ways = [given.routes[d][e] for d in stages[a].devices for e in stages[b].devices]
    slowest = max(ways, key=lambda way: way.latency_seconds * len(tensors) + size * way.seconds_per_byte)
    transport = slowest.transport
    return Transfer(
        source=a,
        target=b,
        tensors=tuple(tensors),
        size_bytes=round(size),
        seconds=slowest.latency_seconds * len(tensors) + size * slowest.seconds_per_byte,
        transport="relay" if transport == "relay" else "local" if transport == "local" else "direct",
        dtype=given.request.cast,
    )


def _alone(given: build.Problem, device: int) -> tuple[Stage, ...]:
    """The whole network on one device; the raw inputs stay where they are."""
    everything = tuple(range(1, len(given.profile.operators) + 1))
    if device == given.source:
        return (Stage((0, *everything), (device,)),)
    return Stage((0,), (given.source,)), Stage(everything, (device,))


def _alternative(given: build.Problem, case: AnyCase, shown: object, device: int) -> Alternative:
    stages = _alone(given, device)
    value = choose.value_of(case, stages)
    if value is None:
        return Alternative(device=given.names[device], value=None, reason=_refusal(given, case, device))
    return Alternative(device=given.names[device], value=shown(value))  # type: ignore[operator]


def _best_split(
    given: build.Problem, case: AnyCase, stages: Sequence[Stage], shown: object
) -> Alternative | None:
    """Return the best plan of two slices along the order of operators, where the plan itself uses one device."""
    used = {d for stage in stages if any(stage.operators) for d in stage.devices}
    if len(used) > 1:
        return None
    n, found = len(given.profile.operators), {}
    able = [d for d, refused in enumerate(given.refused) if not refused]
    pairs = [pair for pair in itertools.permutations(able, 2) if used & set(pair)]
    most = max(1, SPLIT_WORK // (n * max(len(pairs), 1)))
    places = range(1, n, max(1, n // most))
    for (d, e), place in itertools.product(pairs, places):
        value = choose.value_of(case, _split(given, place, d, e))
        if value is not None:
            found[value] = (d, e)
    if not found:
        return None
    d, e = found[min(found)]
    name = f"{given.names[d]} + {given.names[e]}"
    return Alternative(device=name, value=shown(min(found)))  # type: ignore[operator]


def _split(given: build.Problem, place: int, d: int, e: int) -> tuple[Stage, ...]:
    """Operators before ``place`` on one device, the rest on another; the raw inputs where they lie."""
    rows = {d: list(range(1, place + 1)), e: list(range(place + 1, len(given.profile.operators) + 1))}
    rows[given.source] = [0, *rows.get(given.source, [])]
    order = sorted(rows, key=lambda device: rows[device][0])
    return tuple(Stage(tuple(rows[device]), (device,)) for device in order)


def _refusal(given: build.Problem, case: AnyCase, device: int) -> str:
    return given.refused[device] or choose.why_not(case, _alone(given, device))


def _reason(
    given: build.Problem, case: AnyCase, stages: Sequence[Stage], shown: object, device: int
) -> Reason:
    mine = [stage for stage in stages if device in stage.devices and any(stage.operators)]
    name, unit = given.names[device], UNITS[given.request.objective]
    if mine:
        count = sum(1 for stage in mine for v in stage.operators if v)
        return Reason(
            device=name, used=True, reason=f"runs {count} of {len(given.profile.operators)} operators"
        )
    if given.refused[device]:
        return Reason(device=name, used=False, reason=given.refused[device])
    alone = choose.value_of(case, _alone(given, device))
    if alone is None:
        said = f"cannot hold the whole ({_refusal(given, case, device)}), and no part of it there gains"
    else:
        said = f"the whole network there makes {amount(shown(alone), unit)}, and no part of it there gains"  # type: ignore[operator]
    return Reason(device=name, used=False, reason=said)


def _prediction(
    given: build.Problem, case: AnyCase, solution: Solution, stages: Sequence[Stage]
) -> Prediction:
    """Return every figure of the plan; of a replicated slice, its first device answers one request."""
    single = [Stage(stage.operators, stage.devices[:1]) for stage in stages]
    latency, usd, joules = (
        verify.objective(make(given), single)
        for make in (build.latency_case, build.cost_case, build.energy_case)
    )
    try:
        busiest = verify.objective(case if isinstance(case, LoadCase) else build.load_case(given), stages)
    except NoPlan:
        busiest = latency / given.request.batch
    priced = any(device.price_per_hour_usd for device in given.devices)
    powered = any(device.power_watts for device in given.devices)
    return Prediction(
        latency_seconds=latency,
        samples_per_second=1 / busiest if busiest > 0 else 0.0,
        usd_per_thousand=usd if priced else None,
        joules_per_thousand=joules if powered else None,
        step_seconds=solution.value if isinstance(case, StepCase) else None,
    )
