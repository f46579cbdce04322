"""What of a plan leaves the zones where raw data may lie, and what it gives away."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from isthmus.model.leakage import LeakageReport
from isthmus.planning.slicing import leakage
from isthmus.planning.slicing.problem import Problem
from isthmus.planning.slicing.solution import Stage

Exposed = Callable[[Stage, Stage, Iterable[str]], float | None]


def places(given: Problem, stages: Sequence[Stage]) -> list[int]:
    """Return each operator's stage; the raw inputs, operator 0 of a case, are none."""
    stage_of = {v: k for k, stage in enumerate(stages) for v in stage.operators}
    return [stage_of[v] for v in range(1, len(given.profile.operators) + 1)]


def zones(given: Problem, stage: Stage) -> set[str]:
    """Return the zones of a stage's devices."""
    return {given.devices[d].zone for d in stage.devices}


def crossing(given: Problem, stages: Sequence[Stage]) -> tuple[str, ...]:
    """Return the tensors that leave the policy's zones, as ``leakage.seen``."""
    where = places(given, stages)
    return leakage.seen(given.profile, [zones(given, stages[k]) for k in where], given.request.policy, where)


def reached(given: Problem, stages: Sequence[Stage]) -> str:
    """Return which tensors leave and where they arrive: ``relu_1 and skip would reach aws (server)``."""
    leaving, where, policy = set(crossing(given, stages)), places(given, stages), given.request.policy
    found: dict[str, tuple[dict[str, None], dict[str, None]]] = {}
    for k, operator in zip(where, given.profile.operators, strict=True):
        for device in (given.devices[d] for d in stages[k].devices):
            tensors = leaving.intersection(operator.inputs)
            if tensors and not policy.allows_zone(device.zone):
                names, devices = found.setdefault(device.zone, ({}, {}))
                names |= dict.fromkeys(name for name in operator.inputs if name in leaving)
                devices[device.id] = None
    return ", ".join(
        f"{' and '.join(names)} would reach {zone} ({', '.join(devices)})"
        for zone, (names, devices) in found.items()
    )


def exposed(given: Problem, stages: Sequence[Stage], report: LeakageReport | None) -> Exposed:
    """Return what gives a transfer's R², from a stage to another one in other zones; None: not known.

    Where just these tensors were not measured together, and all that leaves was, the figure of all: more
    tensors tell no less. Raw inputs tell all.
    """
    profile, cast = given.profile, given.request.cast
    if report is None:
        return lambda source, target, tensors: None
    telling, whole = leakage.derived(profile), crossing(given, stages)
    raw = set(profile.inputs) - set(profile.labels)

    def found(source: Stage, target: Stage, tensors: Iterable[str]) -> float | None:
        names = [name for name in tensors if name in telling]
        if zones(given, source) == zones(given, target) or not names:
            return None
        if raw <= set(names):
            return 1.0
        measured = leakage.figure(profile, names, report, cast=cast)
        if measured is None and set(names) <= set(whole):
            measured = leakage.figure(profile, whole, report, cast=cast)
        return None if measured is None else measured.r2

    return found
