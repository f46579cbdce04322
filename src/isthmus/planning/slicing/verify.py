"""An independent verifier: scores a plan again, without a solver and without the methods' code.

It reads a case and the stages alone, in plain loops; a method that is wrong about an objective, a
constraint or a bound is found here. Every plan passes it before anybody sees it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from isthmus.errors import PlanUnsound
from isthmus.planning.slicing.case import Case, Graph, LoadCase, SumCase
from isthmus.planning.slicing.solution import Solution, Stage

if TYPE_CHECKING:
    from isthmus.planning.slicing.case import Floats

TOLERANCE = 1e-9
"""Relative: sums of the same numbers in another order differ by that much at most."""
LEAST_SLACK = 1e-15
"""Of a value; of one that is 0, sums leave as much."""


def verify(case: Case, solution: Solution) -> float:
    """Return the objective of a solution, counted here.

    Raises:
        PlanUnsound: it breaks a constraint, claims another value, or its bound is above its value.
    """
    return claims(
        solution, lambda: violations(case, solution.stages), lambda: objective(case, solution.stages)
    )


def claims(solution: Solution, problems: Callable[[], list[str]], count: Callable[[], float]) -> float:
    """Return what a solution is worth by ``count``, where it breaks nothing and claims nothing else.

    Raises:
        PlanUnsound: it breaks a constraint, claims another value, or its bound is above its value.
    """
    if found := problems():
        raise PlanUnsound(f"{solution.method} returned a plan that cannot run: {'; '.join(found)}")
    value = count()
    slack = TOLERANCE * abs(value) + LEAST_SLACK
    if abs(value - solution.value) > slack:
        raise PlanUnsound(f"{solution.method} claims {solution.value!r}; counted again it is {value!r}")
    if solution.bound > value + slack:
        raise PlanUnsound(f"{solution.method} claims that no plan is below {solution.bound!r}; its own is")
    return value


def violations(case: Case, stages: Sequence[Stage]) -> list[str]:
    """Return every constraint that the stages break, in a sentence each; empty when they break none."""
    graph = case.graph
    found = [*complete(graph, stages), *_shares(case, stages)]
    if found:
        return found
    cost = case.seconds if isinstance(case, LoadCase) else case.cost
    stage_of = {v: k for k, stage in enumerate(stages) for v in stage.operators}
    found += _allowed(case, cost, stages)
    found += _memory(case, stages)
    for members in graph.colocated:
        if len({stage_of[v] for v in members}) > 1:
            found.append(f"{', '.join(graph.names[v] for v in members)} must be on one device, and are not")
    if isinstance(case, LoadCase) and case.contiguous:
        found += _contiguous(graph, stage_of)
    if isinstance(case, SumCase):
        found += _sums(case, stages)
    return found


def objective(case: Case, stages: Sequence[Stage]) -> float:
    """Return the largest load of a device, or the sum."""
    if isinstance(case, LoadCase):
        return max(loads(case, stages).values(), default=0.0)
    return _sum(case.graph, stages, case.cost, case.link_fixed, case.link_per_size)


def loads(case: LoadCase, stages: Sequence[Stage]) -> dict[int, float]:
    """Return the seconds a sample that each used device is busy."""
    computing: dict[int, float] = defaultdict(float)
    sending: dict[int, float] = defaultdict(float)
    receiving: dict[int, float] = defaultdict(float)
    stage_of = {v: stage for stage in stages for v in stage.operators}
    for stage in stages:
        for device, share in zip(stage.devices, stage.shares, strict=True):
            computing[device] += share * sum(float(case.seconds[v, device]) for v in stage.operators)
    for signal in case.graph.signals:
        source = stage_of[signal.producer]
        targets = {id(stage_of[c]): stage_of[c] for c in signal.consumers if stage_of[c] is not source}
        for device, share in zip(source.devices, source.shares, strict=True):
            paces = [
                case.send_seconds[device, other]
                for t in targets.values()
                for other in t.devices
                if other != device
            ]
            sending[device] += share * signal.size * float(max(paces, default=0.0))
        for target in targets.values():
            for device, share in zip(target.devices, target.shares, strict=True):
                paces = [case.receive_seconds[other, device] for other in source.devices if other != device]
                receiving[device] += share * signal.size * float(max(paces, default=0.0))
    join = max if case.overlap else lambda *parts: sum(parts)
    return {d: float(join(computing[d], sending[d], receiving[d])) for d in sorted(computing)}


def _sum(graph: Graph, stages: Sequence[Stage], cost: Floats, fixed: Floats, per_size: Floats) -> float:
    device_of = {v: stage.devices[0] for stage in stages for v in stage.operators}
    total = sum(float(cost[v, device]) for v, device in device_of.items())
    for signal in graph.signals:
        source = device_of[signal.producer]
        for target in {device_of[c] for c in signal.consumers} - {source}:
            crossing = signal.size * float(per_size[source, target]) if signal.size else 0.0
            total += float(fixed[source, target]) + crossing
    return total


def _sums(case: SumCase, stages: Sequence[Stage]) -> Iterable[str]:
    device_of = {v: stage.devices[0] for stage in stages for v in stage.operators}
    for u, v in case.graph.edges:
        if case.monotone and device_of[u] > device_of[v]:
            yield f"{case.graph.names[v]} runs on an earlier tier than {case.graph.names[u]}, whose data it reads"
    for signal in case.graph.signals:
        for target in sorted({device_of[c] for c in signal.consumers} - {device_of[signal.producer]}):
            if case.link_fixed[device_of[signal.producer], target] == float("inf"):
                yield f"{case.devices[device_of[signal.producer]]} cannot send to {case.devices[target]}"
    for limit in case.limits:
        value = _sum(case.graph, stages, limit.cost, limit.link_fixed, limit.link_per_size)
        if value > limit.most * (1 + TOLERANCE):
            yield f"{limit.name} is {value:g} {limit.unit}; at most {limit.most:g} {limit.unit} is allowed"


def complete(graph: Graph, stages: Sequence[Stage]) -> Iterable[str]:
    """Every operator is in one slice."""
    placed = sorted(v for stage in stages for v in stage.operators)
    if placed != list(range(len(graph.names))):
        yield f"{len(graph.names)} operators have to be placed once each; {len(placed)} placements were made"


def _shares(case: Case, stages: Sequence[Stage]) -> Iterable[str]:
    used = [device for stage in stages for device in stage.devices]
    if len(used) != len(set(used)) and (not isinstance(case, SumCase)):
        yield "a device is in two slices"
    for stage in stages:
        yield from whole(stage)
        if any(not 0 <= device < len(case.devices) for device in stage.devices):
            yield f"devices {stage.devices} are not all there"
        if len(stage.devices) > 1 and not (isinstance(case, LoadCase) and case.replicated):
            yield "a slice is on several devices, which the case does not allow"


def whole(stage: Stage) -> Iterable[str]:
    """Each device of a slice has a share of the samples, and all are dealt out."""
    if len(stage.devices) != len(stage.shares) or abs(sum(stage.shares) - 1) > TOLERANCE:
        yield f"shares {stage.shares} of {len(stage.devices)} devices do not sum to 1"


def _allowed(case: Case, cost: Floats, stages: Sequence[Stage]) -> Iterable[str]:
    for stage in stages:
        for v in stage.operators:
            for device in stage.devices:
                if not float(cost[v, device]) < float("inf"):
                    yield f"{case.graph.names[v]} may not or cannot run on {case.devices[device]}"


def _memory(case: Case, stages: Sequence[Stage]) -> Iterable[str]:
    needed: dict[int, float] = defaultdict(float)
    for stage in stages:
        for device in stage.devices:
            needed[device] += sum(float(case.memory_bytes[v]) for v in stage.operators)
    for device, size in sorted(needed.items()):
        if size > float(case.capacity_bytes[device]) * (1 + TOLERANCE):
            yield (
                f"{case.devices[device]} needs {size:,.0f} bytes for its slice, "
                f"but has {float(case.capacity_bytes[device]):,.0f}"
            )


def _contiguous(graph: Graph, stage_of: dict[int, int]) -> Iterable[str]:
    """The graph of slices has no cycle, by the edges between forward operators. Backward ones go with the forward
    ones of their group; edges of the backward pass to or from one that has none count in reverse."""
    after: dict[int, set[int]] = defaultdict(set)
    backward = graph.backward or (False,) * len(graph.names)
    alone = {v for group in graph.colocated if all(backward[v] for v in group) for v in group}
    for u, v in graph.edges:
        binds = not backward[u] or not alone.isdisjoint((u, v))
        if backward[u] == backward[v] and binds and stage_of[u] != stage_of[v]:
            first, second = (v, u) if backward[u] else (u, v)
            after[stage_of[first]].add(stage_of[second])
    left = set(stage_of.values())
    while free := {k for k in left if not any(k in after[other] for other in left)}:
        left -= free
    if left:
        yield f"slices {', '.join(map(str, sorted(left)))} wait for each other: they are no pipeline"
