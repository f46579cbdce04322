"""The independent verifier of training steps: no solver, no simulator, no method's code.

It counts a step as the longest path through the actions and transfers that wait for each other, by
recursion; :mod:`simulate` runs events. The two check each other.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from isthmus.planning.slicing.solution import Solution, Stage
from isthmus.planning.slicing.verify import TOLERANCE, claims, complete, whole

if TYPE_CHECKING:
    from isthmus.planning.slicing.case import Floats
    from isthmus.planning.slicing.step_case import StepCase


def verify_step(case: StepCase, solution: Solution) -> float:
    """Return the seconds of a solution's step, counted here.

    Raises:
        PlanUnsound: it breaks a constraint, claims another value, or its bound is above its value.
    """
    return claims(
        solution,
        lambda: step_violations(case, solution.stages),
        lambda: step_seconds(case, solution.stages),
    )


def step_violations(case: StepCase, stages: Sequence[Stage]) -> list[str]:
    """Return every constraint that the stages break, in a sentence each; empty when they break none."""
    names, order = case.graph.names, case.graph.topological
    used = [device for stage in stages for device in stage.devices]
    if found := list(complete(case.graph, stages)):
        return found
    if any(not 0 <= device < len(case.devices) for device in used):
        return [f"devices {used} are not all there"]
    start = 0
    for k, stage in enumerate(stages):
        end = start + len(stage.operators)
        if set(stage.operators) != set(order[start:end]) or end == start:
            found.append(f"slice {k} is no range of the order")
        start = end
    if len(used) != len(set(used)):
        found.append("a device is in two slices")
    for stage in stages:
        found += _shares(case, stage)
    stage_of = {v: k for k, stage in enumerate(stages) for v in stage.operators}
    for members in case.graph.colocated:
        if len({stage_of[v] for v in members}) > 1:
            found.append(f"{', '.join(names[v] for v in members)} must be on one device, and are not")
    found += _links(case, stages)
    return found + list(_memory(case, stages))


def _shares(case: StepCase, stage: Stage) -> Iterable[str]:
    yield from whole(stage)
    if len(stage.devices) > 1 and not case.replicated:
        yield "a slice is on several devices, which the case does not allow"
    for v in stage.operators:
        for device in stage.devices:
            if not float(case.forward_seconds[v, device] + case.backward_seconds[v, device]) < float("inf"):
                yield f"{case.graph.names[v]} may not or cannot run on {case.devices[device]}"


def _links(case: StepCase, stages: Sequence[Stage]) -> Iterable[str]:
    pairs = [(a, b) for stage in stages for a in stage.devices for b in stage.devices if a != b]
    for first, second in itertools.pairwise(stages):
        both = list(itertools.product(first.devices, second.devices))
        pairs += [*both, *((b, a) for a, b in both)]
    for source, target in pairs:
        seconds = case.latency_seconds[source, target] + case.seconds_per_byte[source, target]
        if not float(seconds) < float("inf"):
            yield f"{case.devices[source]} cannot send to {case.devices[target]}"


def step_bytes(case: StepCase, stages: Sequence[Stage]) -> dict[int, float]:
    """Return what each used device holds at most: weights, gradients, the optimizer's state, and the activations of its
    share of the micro-batches in flight."""
    found = {}
    for k, stage in enumerate(stages):
        held = min(case.microbatches, len(stages) - k)
        weights = sum(float(case.parameter_bytes[v]) for v in stage.operators)
        activations = sum(float(case.activation_bytes[v]) for v in stage.operators)
        for device, share in zip(stage.devices, stage.shares, strict=False):
            state = weights * (2 + case.optimizer_bytes_per_weight_byte)
            found[device] = state + held * activations * share
    return found


def step_busy(case: StepCase, stages: Sequence[Stage]) -> dict[int, float]:
    """Return the seconds of a step that each used device works: all its passes, what it sends where it cannot compute
    meanwhile, and the sum of gradients with its replicas."""
    found = {}
    for k, stage in enumerate(stages):
        sent = 0.0
        if not case.overlap:
            sent = sum(
                _transfer(case, stages, k, other) for other in (k - 1, k + 1) if 0 <= other < len(stages)
            )
        for device, share in zip(stage.devices, stage.shares, strict=True):
            passes = sum(
                float(case.forward_seconds[v, device] + case.backward_seconds[v, device])
                for v in stage.operators
            )
            found[device] = case.microbatches * (share * passes + sent) + _sum_gradients(case, stage)
    return found


def _memory(case: StepCase, stages: Sequence[Stage]) -> Iterable[str]:
    for device, needed in step_bytes(case, stages).items():
        if needed > float(case.capacity_bytes[device]) * (1 + TOLERANCE):
            held = next(len(stages) - k for k, stage in enumerate(stages) if device in stage.devices)
            yield (
                f"{case.devices[device]} needs {needed:,.0f} bytes to train its slice with "
                f"{min(case.microbatches, held)} micro-batches in flight, but has "
                f"{float(case.capacity_bytes[device]):,.0f}"
            )


def step_seconds(case: StepCase, stages: Sequence[Stage]) -> float:
    """Return the seconds of the step: the longest chain of what waits for what."""
    count, micro = len(stages), case.microbatches
    forward = [_pass(case.forward_seconds, stage) for stage in stages]
    backward = [_pass(case.backward_seconds, stage) for stage in stages]
    ahead = [_transfer(case, stages, k, k + 1) for k in range(count - 1)]
    back = [_transfer(case, stages, k + 1, k) for k in range(count - 1)]

    @functools.cache
    def end(what: str, k: int, i: int) -> float:
        """Return when forward ('F') or backward ('B') of micro-batch i ends on stage k, or when what it
        sends has arrived ('>' ahead, '<' back)."""
        if i < 0:
            return 0.0
        if what in "><":
            source = end("F" if what == ">" else "B", k, i)
            seconds = ahead[k] if what == ">" else back[k - 1]
            return max(source, end(what, k, i - 1)) + seconds if case.overlap else source + wait(what, k)
        held = min(micro, count - k)
        if what == "F":
            arrives = end(">", k - 1, i) if k else 0.0
            return max(arrives, free("F", k, i - 1), free("B", k, i - held)) + forward[k]
        arrives = end("<", k + 1, i) if k + 1 < count else 0.0
        last = min(i + held - 1, micro - 1)
        return max(arrives, free("F", k, last), free("B", k, i - 1)) + backward[k]

    def wait(what: str, k: int) -> float:
        if what == ">":
            return ahead[k] if k + 1 < count else 0.0
        return back[k - 1] if k else 0.0

    def free(what: str, k: int, i: int) -> float:
        """Return when the stage may go on after an action: at once, or when what it sends has arrived."""
        busy = 0.0 if case.overlap or i < 0 else wait(">" if what == "F" else "<", k)
        return end(what, k, i) + busy

    for what, stage_order in (("F", range(count)), ("B", reversed(range(count)))):
        for i, k in itertools.product(range(micro), list(stage_order)):
            end(what, k, i)  # in this order the recursion stays shallow
    return max(free("B", k, micro - 1) + _sum_gradients(case, stage) for k, stage in enumerate(stages))


def _pass(seconds: Floats, stage: Stage) -> float:
    """Replicas of a stage go on together: the slowest counts."""
    return max(
        share * sum(float(seconds[v, device]) for v in stage.operators)
        for device, share in zip(stage.devices, stage.shares, strict=True)
    )


def _transfer(case: StepCase, stages: Sequence[Stage], source: int, target: int) -> float:
    position = sum(len(stage.operators) for stage in stages[: max(source, target)])
    size = float(case.crossing_bytes[position])
    return max(
        float(case.latency_seconds[a, b]) + size * float(case.seconds_per_byte[a, b])
        for a in stages[source].devices
        for b in stages[target].devices
    )


def _sum_gradients(case: StepCase, stage: Stage) -> float:
    """A ring of r replicas passes each gradient on 2 (r - 1) times, in r parts (Patarasuk and Yuan 2009)."""
    count = len(stage.devices)
    if count == 1:
        return 0.0
    pairs = [(a, b) for a in stage.devices for b in stage.devices if a != b]
    latency = max(float(case.latency_seconds[a, b]) for a, b in pairs)
    pace = max(float(case.seconds_per_byte[a, b]) for a, b in pairs)
    size = sum(float(case.parameter_bytes[v]) for v in stage.operators)
    return 2 * (count - 1) * (latency + size / count * pace)
