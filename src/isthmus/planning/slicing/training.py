"""The planner of training steps: exact for chains under 1F1B, as far as the time limit lets it."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

from isthmus.errors import NoPlan
from isthmus.planning.slicing import ranges, step_pairs, step_ranges
from isthmus.planning.slicing.replica import INSTANT, shares
from isthmus.planning.slicing.schedule import schedule
from isthmus.planning.slicing.simulate import Step, Times, simulate
from isthmus.planning.slicing.solution import Solution, Stage
from isthmus.planning.slicing.step_bound import floor
from isthmus.planning.slicing.step_case import StepCase, is_chain, prefix_cut_sizes
from isthmus.planning.slicing.step_search import CLOSE, Search
from isthmus.planning.slicing.step_terrain import Terrain, alike, terrain
from isthmus.planning.slicing.verify_step import step_violations

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from isthmus.planning.slicing.case import Floats

__all__ = ["StepCase", "prefix_cut_sizes", "simulate_step", "solve_step"]

METHOD = "branch and bound over 1F1B pipelines"
SWEEPS: tuple[tuple[int | None, int], ...] = (
    (3, 5_000),
    (40, 40_000),
    (None, 40_000),
    (None, 1_000_000),
)
"""Labels kept of a state and of a number of stages: first a good plan, then all."""
MOST_STATES = 60_000
"""Counts of devices times units; beyond that, the fastest devices alone are planned with."""
MOST_NUMBERS = 2_000_000_000
"""Counts times units times pairs of positions; beyond that, cuts lie at chosen positions alone."""
MOST_POSITIONS = 1_200
ROUGH_SHARE = 0.25
"""Of the time, for plans without a proof where not all devices and cuts can be searched."""


def solve_step(case: StepCase, *, time_limit_seconds: float) -> Solution:
    """Return the plan whose step is shortest, its value as the simulator gives it.

    Raises:
        NoPlan: no ranges fit into the devices' memory and can reach each other.
    """
    begun = time.perf_counter()
    if (case.forward_seconds + case.backward_seconds).min(axis=1).max() == float("inf"):
        raise NoPlan(_none_found(["an operator may run nowhere"]))
    land, given_up = affordable(case)
    rough = (
        step_ranges.improve(case, _scored(case), seconds=ROUGH_SHARE * time_limit_seconds)
        if given_up
        else None
    )
    search, passed = _searched(land, begun + time_limit_seconds)
    found = name_devices(land, search.plan) if search.plan else rough
    if found is None:
        raise NoPlan(_none_found([*given_up, "the search found none in time"] if search.late() else given_up))
    if rough is not None:
        found = min(found, rough, key=lambda stages: simulate_step(case, stages).seconds)
    value = simulate_step(case, found).seconds
    bound = plain_bound(case) if given_up else passed
    proven = bound >= value * (1 - 2 * CLOSE)
    if found is rough:
        given_up.append("a better plan is by an annealed order of all devices")
    if not is_chain(case.graph):
        given_up.append("the network is no chain, and only ranges of one topological order were searched")
    elif not proven and not given_up:
        given_up.append(f"the search was stopped by its limits after {time.perf_counter() - begun:.1f} s")
    return Solution(
        found,
        value,
        min(value, bound),
        ranges.METHOD if found is rough else METHOD,
        exact=proven and not given_up,
        seconds=time.perf_counter() - begun,
        given_up="; ".join(given_up),
    )


def _searched(land: Terrain, until: float) -> tuple[Search, float]:
    """Return a search that ended, and a bound on every plan of its devices and cuts."""
    table = floor(land)
    search = Search(table, until)
    if table.root == float("inf"):
        return search, table.root
    search.try_plan(table.first_plan())
    passed = table.root
    for width, most in SWEEPS:
        if passed >= search.limit or search.late():
            break
        passed = max(passed, search.sweep(width, most))
        if search.pairs is None and search.plan and passed < search.limit and step_pairs.affordable(land):
            search.pairs = step_pairs.pairs(land, search.limit)
            passed = max(passed, search.pairs.root)
    return search, passed


def _scored(case: StepCase) -> Callable[[Sequence[Stage]], float | None]:
    def score(stages: Sequence[Stage]) -> float | None:
        return None if step_violations(case, stages) else simulate_step(case, stages).seconds

    return score


def simulate_step(case: StepCase, stages: Sequence[Stage]) -> Step:
    """Run a plan's step in the simulator."""
    links = range(len(stages) - 1)
    return simulate(
        schedule(len(stages), case.microbatches),
        Times(
            forward=[_slowest(case.forward_seconds, stage) for stage in stages],
            backward=[_slowest(case.backward_seconds, stage) for stage in stages],
            send_forward=[_transfer(case, stages, k, k + 1) for k in links],
            send_backward=[_transfer(case, stages, k + 1, k) for k in links],
            finish=[_finish(case, stage) for stage in stages],
            overlap=case.overlap,
        ),
    )


def plain_bound(case: StepCase) -> float:
    """Return a bound on every plan, whatever its cuts and devices: one micro-batch passes all operators
    there and back, and all micro-batches' work is at best divided evenly."""
    land = Terrain(case, alike(case), (0, len(case.graph.names)))
    once = float(land.least[0][-1] + land.least[1][-1])
    work = (case.forward_seconds + case.backward_seconds).min(axis=1).sum()
    return max(once, case.microbatches * float(work) / len(case.devices))


def _slowest(seconds: Floats, stage: Stage) -> float:
    total = seconds[list(stage.operators)][:, list(stage.devices)].sum(axis=0)
    return float((total * list(stage.shares)).max())


def _transfer(case: StepCase, stages: Sequence[Stage], source: int, target: int) -> float:
    import numpy as np

    position = sum(len(stage.operators) for stage in stages[: max(source, target)])
    pairs = np.ix_(stages[source].devices, stages[target].devices)
    return float(
        (case.latency_seconds[pairs] + case.crossing_bytes[position] * case.seconds_per_byte[pairs]).max()
    )


def _finish(case: StepCase, stage: Stage) -> float:
    import numpy as np

    count = len(stage.devices)
    if count == 1:
        return 0.0
    pairs, apart = np.ix_(stage.devices, stage.devices), ~np.eye(count, dtype=bool)
    latency, pace = case.latency_seconds[pairs][apart].max(), case.seconds_per_byte[pairs][apart].max()
    weights = case.parameter_bytes[list(stage.operators)].sum()
    return float(2 * (count - 1) * (latency + weights / count * pace))


def name_devices(land: Terrain, plan: Sequence[tuple[int, int, int]]) -> tuple[Stage, ...]:
    """Name the devices that a plan counts, and give each its share.

    ``plan``: from the last stage to the first: start, end (indices of positions) and unit.
    """
    case, order = land.case, land.case.graph.topological
    free = [list(members) for members in land.kinds]
    found = []
    for start, end, unit in reversed(plan):
        operators = order[land.positions[start] : land.positions[end]]
        chosen = [free[t].pop(0) for t, count in enumerate(land.units[unit]) for _ in range(count)]
        seconds = (case.forward_seconds + case.backward_seconds)[list(operators)][:, chosen].sum(axis=0)
        found.append(Stage(operators, tuple(chosen), shares([1 / max(s, INSTANT) for s in seconds.tolist()])))
    return tuple(found)


def affordable(case: StepCase) -> tuple[Terrain, list[str]]:
    """Lay the case out, with fewer devices or cuts where all are too many; say so."""
    given_up = []
    land = terrain(case)
    states = _states(land)
    if states > MOST_STATES:
        land, kept = _fastest(land)
        states = _states(land)
        given_up.append(f"of {len(case.devices)} devices, the {kept} fastest alone were planned with")
    most = min(MOST_POSITIONS, int((MOST_NUMBERS / states) ** 0.5))
    if len(land.positions) > most:
        given_up.append(f"of {len(land.positions)} places for a cut, {most} were searched")
        land = fewer_places(land, most)
    return land, given_up


def _states(land: Terrain) -> int:
    found = len(land.units) if not land.case.replicated else 1
    for count in land.counts:
        found *= count + 1
    if land.case.replicated:
        found *= found
    return found


def _fastest(land: Terrain) -> tuple[Terrain, int]:
    """Keep the devices with most operators that they may run, the fastest first, while the states allow."""
    import numpy as np

    seconds = land.case.forward_seconds + land.case.backward_seconds
    barred = np.isinf(seconds).sum(axis=0)
    speed = np.where(np.isfinite(seconds), seconds, 0.0).sum(axis=0)
    ranked = sorted(range(len(land.case.devices)), key=lambda d: (barred[d], speed[d], d))
    best = land
    for count in range(1, len(ranked) + 1):
        chosen = set(ranked[:count])
        kinds = tuple(tuple(d for d in members if d in chosen) for members in land.kinds)
        tried = dataclasses.replace(land, kinds=tuple(members for members in kinds if members))
        if _states(tried) > MOST_STATES:
            return best, count - 1
        best = tried
    return best, len(ranked)


def fewer_places(land: Terrain, most: int) -> Terrain:
    """Choose at most so many places for cuts: of each part of the work, the one over which least is sent."""
    import numpy as np

    case, at = land.case, np.array(land.positions)
    forward, backward = land.least
    done = (forward + backward) / max(float((forward + backward)[-1]), INSTANT)
    part = np.minimum((done * (most - 2)).astype(int), most - 3)
    best: dict[int, int] = {}
    for position, bucket in zip(at[1:-1].tolist(), part[1:-1].tolist(), strict=True):
        if bucket not in best or case.crossing_bytes[position] < case.crossing_bytes[best[bucket]]:
            best[bucket] = position
    return dataclasses.replace(land, positions=tuple(sorted({0, int(at[-1]), *best.values()})))


def _none_found(given_up: list[str]) -> str:
    return "no slices can be trained on these devices" + "".join(f" ({entry})" for entry in given_up)
