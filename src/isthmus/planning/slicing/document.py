"""A solution as a plan's document: slices, transfers, predictions, and why each device is used or not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from isthmus.errors import NoPlan
from isthmus.model.leakage import LeakageReport
from isthmus.model.slicing import UNITS, Prediction, Replica, Slice, SlicePlan, Transfer
from isthmus.planning.slicing import build, comparison, verify
from isthmus.planning.slicing.case import LoadCase
from isthmus.planning.slicing.choose import AnyCase
from isthmus.planning.slicing.exposure import exposed
from isthmus.planning.slicing.problem import Problem
from isthmus.planning.slicing.solution import Solution, Stage
from isthmus.planning.slicing.step_case import StepCase

LEAST_SECONDS = 1e-12
"""Nothing is told apart below a picosecond: a rate stays a number that JSON has."""
MOST_GAP = 1e9


def document(
    given: Problem, case: AnyCase, solution: Solution, report: LeakageReport | None = None
) -> SlicePlan:
    """Return the plan of a solution that was verified, with what it is compared with.

    ``report``: where there are figures, transfers between zones have theirs.
    """
    stages = sorted(solution.stages, key=lambda stage: min(stage.operators))
    request, unit = given.request, UNITS[given.request.objective]
    inverted = request.objective == "throughput"

    def shown(value: float) -> float:
        return 1 / max(value, LEAST_SECONDS) if inverted else value

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
        slices=_slices(given, case, stages),
        transfers=transfers(given, stages, report),
        reasons=tuple(
            comparison.reason(given, case, stages, shown, d, report) for d in range(len(given.devices))
        ),
        prediction=_prediction(given, case, solution, stages),
        alternatives=tuple(comparison.alternative(given, case, shown, d) for d in range(len(given.devices))),
        best_split=comparison.best_split(given, case, stages, shown, report),
        certificate=solution.certificate.describe(solution.bound) if solution.certificate else "",
        solve_seconds=solution.seconds,
    )


def _used(case: AnyCase, stages: Sequence[Stage]) -> tuple[dict[int, float], dict[int, float]]:
    """Return by device the seconds that it works, of a sample or of a training step, and the bytes that it holds where
    those are more than parameters."""
    if isinstance(case, StepCase):
        from isthmus.planning.slicing import verify_step

        return verify_step.step_busy(case, stages), verify_step.step_bytes(case, stages)
    return (verify.loads(case, stages) if isinstance(case, LoadCase) else {}), {}


def _slices(given: Problem, case: AnyCase, stages: Sequence[Stage]) -> tuple[Slice, ...]:
    weights = build.parameter_bytes(given.profile)
    busy, held = _used(case, stages)
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
                memory_bytes=math.ceil(held.get(d, memory)),
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


def transfers(given: Problem, stages: Sequence[Stage], report: LeakageReport | None) -> tuple[Transfer, ...]:
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
    leaks = exposed(given, stages, report)
    return tuple(
        _transfer(given, stages[a], stages[b], (a, b), tensors, leaks(stages[a], stages[b], tensors))
        for (a, b), tensors in sorted(crossing.items())
    )


def _transfer(
    given: Problem,
    source: Stage,
    target: Stage,
    numbers: tuple[int, int],
    tensors: Mapping[str, float],
    leakage_r2: float | None,
) -> Transfer:
    size = sum(tensors.values())
    ways = [given.routes[d][e] for d in source.devices for e in target.devices]
    slowest = max(ways, key=lambda way: way.latency_seconds * len(tensors) + size * way.seconds_per_byte)
    transport = slowest.transport
    return Transfer(
        source=numbers[0],
        target=numbers[1],
        tensors=tuple(tensors),
        size_bytes=round(size),
        seconds=slowest.latency_seconds * len(tensors) + size * slowest.seconds_per_byte,
        transport="relay" if transport == "relay" else "local" if transport == "local" else "direct",
        dtype=given.request.cast,
        leakage_r2=leakage_r2,
    )


def _prediction(given: Problem, case: AnyCase, solution: Solution, stages: Sequence[Stage]) -> Prediction:
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
