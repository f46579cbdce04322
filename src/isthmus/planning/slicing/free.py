"""Slices that may lie anywhere, or whose transfers depend on both sides, with a proven bound.

Where slices may lie anywhere and what a device pays for a transfer does not depend on the other side, the search is
:mod:`free_search`'s. Else it is a constraint programme, :mod:`free_constraints`, which starts from an annealed order of
devices (:mod:`ranges`); where that programme would be too large, the start is the plan.
"""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

from isthmus.errors import NoPlan
from isthmus.planning.slicing import anneal, free_search, lattice, ranges, verify
from isthmus.planning.slicing.blocks import contract
from isthmus.planning.slicing.divided import divisible
from isthmus.planning.slicing.free_constraints import Constraints, Found, size
from isthmus.planning.slicing.orders import LINEAR
from isthmus.planning.slicing.solution import Solution

if TYPE_CHECKING:
    from isthmus.planning.slicing.case import LoadCase
    from isthmus.planning.slicing.solution import Stage

METHOD = "constraint programme (CP-SAT)"
FREE_METHOD = "annealing, HiGHS and CP-SAT"
MOST_IDEALS = 20_000
"""Of the contiguous plan to start from."""
ANNEALING_SHARE = 0.3
"""Of the time, for an order of devices; the rest proves, and improves further."""
MOST_TERMS = 400_000
"""Of a constraint programme; a larger one takes longer to build than it gains in a minute."""
EXACT = 1e-6
"""Relative; whole units and the solvers' tolerances leave the digits beyond open."""


def solve(case: LoadCase, *, time_limit_seconds: float = 60.0, workers: int = 2) -> Solution:
    """Return the best plan found, and a bound that no plan is below.

    Raises:
        NoPlan: none fits; or none was found in time, and which of the two it is.
    """
    started = time.perf_counter()
    floor = divisible(case)
    anywhere = anneal.applies(case) and not case.contiguous
    find = _anywhere if anywhere else _constrained
    found = find(case, floor, started + time_limit_seconds, workers)
    if found.stages is None:
        raise NoPlan(
            "no slicing fits the devices' memory and what each may run"
            if found.closed
            else f"no slicing was found within {time_limit_seconds:g} s; allow more time"
        )
    value = verify.objective(case, found.stages)
    bound = min(max(found.bound, floor), value)
    exact = value - bound <= EXACT * value and (found.closed or value <= floor * (1 + verify.TOLERANCE))
    return Solution(
        found.stages,
        value,
        bound,
        found.method or (FREE_METHOD if anywhere else METHOD),
        exact,
        seconds=time.perf_counter() - started,
        given_up="" if exact else found.given_up or _given_up(found.closed, time_limit_seconds),
    )


def _given_up(closed: bool, time_limit_seconds: float) -> str:
    if closed:
        return "costs are counted in whole units; that leaves the last digits open"
    return f"the search was ended after {time_limit_seconds:g} s"


def _anywhere(case: LoadCase, floor: float, until: float, workers: int) -> Found:
    """Search from the best contiguous plan, or, where memory allows none, from any."""
    blocks = contract(case, contiguous=False)
    first = _contiguous(case, floor, until)
    if first is None:
        if (terms := size(case, blocks)) > MOST_TERMS:
            return Found(None, floor, closed=False, given_up=_not_built(terms))
        found = _sound(
            case, Constraints(case, blocks, None, floor).solve(_left(until), workers, first_only=True)
        )
        if found.stages is None:
            return found
        first = found.stages
    return free_search.search(case, blocks, first, floor=floor, until=until, workers=workers)


def _constrained(case: LoadCase, floor: float, until: float, workers: int) -> Found:
    blocks = contract(case, contiguous=case.contiguous)
    first = _contiguous(case, floor, until)
    if first is not None and verify.objective(case, first) <= floor * (1 + verify.TOLERANCE):
        return Found(first, floor, closed=True)
    if (terms := size(case, blocks)) > MOST_TERMS:
        return Found(first, floor, closed=False, given_up=_not_built(terms), method=ranges.METHOD)
    found = _sound(case, Constraints(case, blocks, first, floor).solve(_left(until), workers))
    known = [stages for stages in (found.stages, first) if stages is not None]
    if not known:
        return found
    best = min(known, key=lambda stages: verify.objective(case, stages))
    return dataclasses.replace(found, stages=best)


def _sound(case: LoadCase, found: Found) -> Found:
    """Leave out stages that fit only as the programme counts memory, rounded down."""
    if found.stages is None or not verify.violations(case, found.stages):
        return found
    return Found(
        None, found.bound, closed=False, given_up="memory was counted in units that are too coarse for it"
    )


def _not_built(terms: int) -> str:
    return (
        f"a constraint programme of {terms:,} terms was not built: only ranges of {LINEAR} linear orders were "
        f"searched, by annealing"
    )


def _left(until: float) -> float:
    return max(until - time.perf_counter(), 1.0)


def _contiguous(case: LoadCase, floor: float, until: float) -> tuple[Stage, ...] | None:
    """Return the best contiguous plan, or a good one where there are too many to look at all; None: none was found."""
    whole = dataclasses.replace(case, contiguous=True)
    if lattice.applies(whole):
        seconds = ANNEALING_SHARE * _left(until)
        return ranges.improve(whole, contract(whole, contiguous=True), seconds=seconds, goal=floor)
    try:
        seconds = ANNEALING_SHARE * _left(until)
        return lattice.solve(whole, most_ideals=MOST_IDEALS, time_limit_seconds=seconds).stages
    except NoPlan:
        return None
