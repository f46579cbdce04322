"""What is said to make an impossible throughput or training case possible does, and nothing smaller of its kind does.

The smallest is found by looking at every plan; that it does is shown by the method itself.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
import step_instances
from slicing_instances import chain, dag, every_plan, load_case
from training_graphs import irregular

from isthmus.errors import NoPlan
from isthmus.planning.slicing import choose, relax
from isthmus.planning.slicing.case import LoadCase
from isthmus.planning.slicing.remedy import Remedy
from isthmus.planning.slicing.solution import Stage
from isthmus.planning.slicing.step_case import StepCase
from isthmus.planning.slicing.verify import violations
from isthmus.planning.slicing.verify_step import step_violations

AnyCase = LoadCase | StepCase
LATER = 1e9


def contiguous(dice: random.Random) -> LoadCase:
    n = dice.randint(2, 5)
    graph = dice.choice([chain(dice, n), dag(dice, n, grouped=True), irregular(dice, 3)])
    return pinned(dice, load_case(dice, graph, dice.choice([[2], [1, 1], [2, 1]])))


def anywhere(dice: random.Random) -> LoadCase:
    return dataclasses.replace(contiguous(dice), contiguous=False)


def replicated(dice: random.Random) -> LoadCase:
    case = load_case(dice, chain(dice, dice.randint(2, 5)), dice.choice([[2], [1, 1], [2, 1]]))
    return dataclasses.replace(pinned(dice, case), replicated=True)


def pinned(dice: random.Random, case: LoadCase) -> LoadCase:
    """Operators that may run on one device only, or little memory."""
    pins = pins_of(dice, case) if dice.random() < 0.5 else 0.0
    room = case.capacity_bytes * dice.choice([0.6, 0.8, 1.0, 3.0])
    return dataclasses.replace(case, seconds=case.seconds + pins, capacity_bytes=room)


def pins_of(dice: random.Random, case: LoadCase | StepCase) -> np.ndarray:
    """Return infinity wherever some operators may not run."""
    n, m = len(case.graph.names), len(case.devices)
    found = np.zeros((n, m))
    for v in dice.sample(range(n), k=min(n, dice.randint(2, 4))):
        found[v] = np.inf
        found[v, dice.randrange(m)] = 0
    return found


def step(dice: random.Random) -> StepCase:
    case = step_instances.small_case(dice.randrange(10**6))
    room = case.capacity_bytes * dice.choice([0.5, 0.8, 1.0, 4.0])
    if dice.random() < 0.5:
        forward, links = case.forward_seconds + pins_of(dice, case), case.latency_seconds.copy()
        a, b = dice.randrange(len(links)), dice.randrange(len(links))
        links[a, b] = links[b, a] = np.inf
        case = dataclasses.replace(case, forward_seconds=forward, latency_seconds=links)
    return dataclasses.replace(case, capacity_bytes=room)


def replicated_step(dice: random.Random) -> StepCase:
    case = step_instances.small_case(dice.randrange(10**6), replicated=True)
    return dataclasses.replace(case, capacity_bytes=case.capacity_bytes * dice.choice([0.4, 0.7]))


def plans(case: AnyCase) -> Iterator[tuple[Stage, ...]]:
    """Return every plan, whatever memory and permissions it would need, that breaks nothing else."""
    free = np.full(len(case.devices), np.inf)
    if isinstance(case, StepCase):
        able = dataclasses.replace(
            case,
            capacity_bytes=free,
            forward_seconds=np.nan_to_num(case.forward_seconds, posinf=1.0),
            backward_seconds=np.nan_to_num(case.backward_seconds, posinf=1.0),
        )
        yield from (plan for plan in step_instances.every_plan(able) if not step_violations(able, plan))
        return
    able = dataclasses.replace(
        case, capacity_bytes=free, seconds=np.ones_like(case.seconds), replicated=False
    )
    found = every_plan(case.graph, len(case.devices))
    yield from (plan for plan in found if not violations(able, plan))


def needs(case: AnyCase, plan: Sequence[Stage]) -> dict[int, float]:
    if isinstance(case, LoadCase):
        return {s.devices[0]: float(case.memory_bytes[list(s.operators)].sum()) for s in plan}
    found = {}
    for k, stage in enumerate(plan):
        rows, held = list(stage.operators), min(case.microbatches, len(plan) - k)
        weights = case.parameter_bytes[rows].sum() * (2 + case.optimizer_bytes_per_weight_byte)
        for d, share in zip(stage.devices, stage.shares, strict=True):
            found[d] = float(weights + held * case.activation_bytes[rows].sum() * share)
    return found


def new_pairs(case: AnyCase, plan: Sequence[Stage]) -> list[tuple[int, int]]:
    seconds = case.seconds if isinstance(case, LoadCase) else case.forward_seconds + case.backward_seconds
    return [(v, d) for s in plan for v in s.operators for d in s.devices if not np.isfinite(seconds[v, d])]


def smallest(case: AnyCase) -> tuple[float, float, float]:
    """Return the fewest bytes on one device, the least factor of all, and the fewest operators newly on one device."""
    room, more, factor, moved = case.capacity_bytes, np.inf, np.inf, np.inf
    for plan in plans(case):
        needed, new = needs(case, plan), new_pairs(case, plan)
        over = [d for d, size in needed.items() if size > room[d] * (1 + 1e-9)]
        if not new:
            factor = min(factor, max(size / room[d] for d, size in needed.items()))
            if len(over) == 1:
                more = min(more, math.ceil(needed[over[0]] - room[over[0]]))
        elif not over and len({d for _, d in new}) == 1:
            moved = min(moved, len(new))
    return more, math.ceil(factor * 1000 - 1e-9) / 1000 if factor < np.inf else factor, moved


def changed(case: AnyCase, remedy: Remedy) -> str:
    """Return what a remedy changes."""
    after = remedy.case
    assert isinstance(after, (LoadCase, StepCase))
    more = after.capacity_bytes > case.capacity_bytes
    if more.any():
        return "one" if "more on" in remedy.would_do else "all"
    if isinstance(after, LoadCase) and isinstance(case, LoadCase) and after.contiguous != case.contiguous:
        return "contiguity"
    return "links" if "link" in remedy.would_do else "operators"


def check(case: AnyCase, seen: dict[str, int]) -> None:
    """Compare the remedies of one impossible case with the smallest."""
    more, factor, moved = smallest(case)
    found = relax.remedies(relax.family_of(case, LATER), LATER)
    kinds = {changed(case, remedy): remedy for remedy in found}
    for kind, remedy in kinds.items():
        seen[kind] = seen.get(kind, 0) + 1
        assert not isinstance(remedy.case, type(None))
        choose.solve(remedy.case, time_limit_seconds=1)
        assert remedy.least or kind in ("links",) or " and " in remedy.would_do
    if more < np.inf:
        extra = kinds["one"].case.capacity_bytes - case.capacity_bytes
        assert extra.max() == extra.sum() == pytest.approx(more)
    elif "one" in kinds:
        assert " and " in kinds["one"].would_do
    if factor < np.inf:
        assert kinds["all"].would_do == f"{factor:g} times the memory on every device"
    elif moved < np.inf and "operators" in kinds:
        assert count(case, kinds["operators"]) == moved


def count(case: AnyCase, remedy: Remedy) -> int:
    before, after = (
        np.isfinite(c.seconds if isinstance(c, LoadCase) else c.forward_seconds + c.backward_seconds)
        for c in (case, remedy.case)
        if isinstance(c, (LoadCase, StepCase))
    )
    return int((after & ~before).sum())


def refusal(case: AnyCase) -> str:
    try:
        choose.solve(case, time_limit_seconds=1)
    except NoPlan as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("make", "cases", "kinds"),
    [
        (contiguous, 25, {"one", "all", "operators", "contiguity"}),
        pytest.param(anywhere, 15, {"one", "all"}, marks=pytest.mark.slow),
        (replicated, 30, {"one", "all", "operators"}),
        pytest.param(step, 40, {"one", "all", "links", "operators"}, marks=pytest.mark.slow),
        (replicated_step, 15, {"one", "all"}),
    ],
)
def test_the_remedies_do_and_nothing_smaller_does(
    make: Callable[[random.Random], AnyCase], cases: int, kinds: set[str]
) -> None:
    dice, seen, tried = random.Random(91), dict[str, int](), 0
    for _ in itertools.count():
        case = make(dice)
        family = relax.family_of(case, LATER)
        if not family.allowed.any(axis=1).all() or any(
            not family.allowed[list(members)].all(axis=0).any() for members in case.graph.colocated
        ):
            assert "would make a plan possible" in relax.explain(case)
            continue
        said = refusal(case)
        assert (said == "") == (relax.explain(case) == "")
        if said:
            tried += 1
            check(case, seen)
            assert "would make a plan possible" in said
        if tried == cases:
            break
    assert kinds <= set(seen), seen
