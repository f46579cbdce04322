"""What a plan is compared with: the whole network on each device, the best split in two, and devices not used."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from isthmus.model.leakage import LeakageReport
from isthmus.model.slicing import UNITS, Alternative, Reason
from isthmus.planning.slicing import choose, guarded, leakage
from isthmus.planning.slicing.choose import AnyCase
from isthmus.planning.slicing.problem import Problem
from isthmus.planning.slicing.solution import Stage
from isthmus.planning.slicing.wording import amount

Shown = Callable[[float], float]
"""From a case's value to the plan's unit."""
SPLIT_WORK = 1_000_000
"""Operators that are counted again, over all splits of two devices looked at where one device does all."""
MOST_JUDGED = 256
"""Splits whose leakage is looked at, the best first."""


def _alone(given: Problem, device: int) -> tuple[Stage, ...]:
    """The whole network on one device; the raw inputs stay where they are."""
    everything = tuple(range(1, len(given.profile.operators) + 1))
    if device == given.source:
        return (Stage((0, *everything), (device,)),)
    return Stage((0,), (given.source,)), Stage(everything, (device,))


def alternative(given: Problem, case: AnyCase, shown: Shown, device: int) -> Alternative:
    """Return what the whole network on one device is worth, or why it cannot run there."""
    stages = _alone(given, device)
    value = choose.value_of(case, stages)
    if value is None:
        return Alternative(device=given.names[device], value=None, reason=_refusal(given, case, device))
    return Alternative(device=given.names[device], value=shown(value))


def best_split(
    given: Problem, case: AnyCase, stages: Sequence[Stage], shown: Shown, report: LeakageReport | None
) -> Alternative | None:
    """Return the best plan of two slices along the order of operators, where the plan itself uses one device."""
    used = {d for stage in stages if any(stage.operators) for d in stage.devices}
    if len(used) > 1:
        return None
    n, found = len(given.profile.operators), list[tuple[float, int, int, int]]()
    able = [d for d, refused in enumerate(given.refused) if not refused]
    pairs = [pair for pair in itertools.permutations(able, 2) if used & set(pair)]
    most = max(1, SPLIT_WORK // (n * max(len(pairs), 1)))
    places = range(1, n, max(1, n // most))
    for (d, e), place in itertools.product(pairs, places):
        value = choose.value_of(case, split(given, place, d, e))
        if value is not None:
            found.append((value, place, d, e))
    for value, place, d, e in sorted(found)[:MOST_JUDGED]:
        if guarded.offence(given, split(given, place, d, e), report) is None:
            return Alternative(device=f"{given.names[d]} + {given.names[e]}", value=shown(value))
    return None


def split(given: Problem, place: int, d: int, e: int) -> tuple[Stage, ...]:
    """Return operators before ``place`` on one device, the rest on another; the raw inputs where they lie."""
    rows = {d: list(range(1, place + 1)), e: list(range(place + 1, len(given.profile.operators) + 1))}
    rows[given.source] = [0, *rows.get(given.source, [])]
    order = sorted((device for device in rows if rows[device]), key=lambda device: rows[device][0])
    return tuple(Stage(tuple(rows[device]), (device,)) for device in order)


def _refusal(given: Problem, case: AnyCase, device: int) -> str:
    return given.refused[device] or choose.why_not(case, _alone(given, device))


def reason(
    given: Problem,
    case: AnyCase,
    stages: Sequence[Stage],
    shown: Shown,
    device: int,
    report: LeakageReport | None,
) -> Reason:
    """Return why a device is used or not."""
    mine = [stage for stage in stages if device in stage.devices and any(stage.operators)]
    name, count = given.names[device], len(given.profile.operators)
    if mine:
        runs = sum(1 for stage in mine for v in stage.operators if v)
        return Reason(device=name, used=True, reason=f"runs {runs} of {count} operators")
    if given.refused[device]:
        return Reason(device=name, used=False, reason=given.refused[device])
    alone = choose.value_of(case, _alone(given, device))
    if alone is None:
        said = f"cannot hold the whole ({_refusal(given, case, device)}), and no part of it there gains"
    else:
        unit = UNITS[given.request.objective]
        said = f"the whole network there makes {amount(shown(alone), unit)}, and no part of it there gains"
    return Reason(device=name, used=False, reason=said + _kept_from(given, device, report))


def _kept_from(given: Problem, device: int, report: LeakageReport | None) -> str:
    """Say how many tensors the policy keeps from a device, and what would tell more; empty where none."""
    policy = given.request.policy
    limit = policy.max_leakage_r2
    if not leakage.limited(policy) or policy.allows_zone(given.devices[device].zone):
        return ""
    made = leakage.derived(given.profile) - set(given.profile.inputs) - set(given.profile.outputs)
    kept = made & given.request.leaky
    cast = given.request.cast
    unmeasured = [t for t in kept if leakage.figure(given.profile, (t,), report, cast=cast) is None]
    parts = []
    if len(kept) > len(unmeasured):
        parts.append(f"{len(kept) - len(unmeasured)} tell R² {limit:g} or more of the raw input")
    if unmeasured:
        parts.append(f"{len(unmeasured)} were not measured (`isthmus leakage`)")
    return f"; of {len(made)} tensors that might leave, {' and '.join(parts)}" if parts else ""
