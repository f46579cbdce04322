"""Exact contiguous slicing: dynamic programming over order ideals and counts of devices.

A contiguous plan is a chain of order ideals (sets of blocks closed under predecessors): each slice is
what one ideal has more than the one before (Tarnawski et al., "Efficient Algorithms for Device
Placement of DNN Graph Operators", NeurIPS 2020). Devices of one kind are counted, not named. For a
chain of operators the ideals are its prefixes.

What we add: only signals that leave the inner ideal are looked at; pairs of ideals further apart than a
plan already found are never formed; states whose left-over work cannot fit the left-over devices are
never filled; and the table is filled from the end that has fewer slices to begin with.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from isthmus.errors import NoPlan
from isthmus.planning.slicing import ranges, verify
from isthmus.planning.slicing.blocks import Blocks, contract
from isthmus.planning.slicing.divided import divisible
from isthmus.planning.slicing.kinds import Kinds, kinds
from isthmus.planning.slicing.lattice_table import LateError, Table
from isthmus.planning.slicing.orders import LINEAR, linear_orders, prefixes
from isthmus.planning.slicing.solution import Solution

if TYPE_CHECKING:
    from isthmus.planning.slicing.case import LoadCase
    from isthmus.planning.slicing.solution import Stage

MOST_IDEALS = 60_000
MOST_CELLS = 40_000_000
"""Entries of a table: 8 bytes of value and 16 of its way for each."""
MOST_HELD = 60_000_000
"""Ideals times blocks: 8 bytes for each, for a while."""
MOST_PAIRS = 200_000_000
"""Of prefixes, times counts of devices: without a known plan, a few tenths of a second."""
TIME_LIMIT_SECONDS = 60.0
ROUGH_SHARE = 0.3
"""Of the time, for a first plan."""
ONLY = f"only ranges of {LINEAR} linear orders were searched"
METHOD = "dynamic programme over order ideals"
CHAIN_METHOD = "count-state dynamic programme over a chain"


def applies(case: LoadCase) -> str:
    """Return why the method is not exact for a case; empty where it is."""
    if not case.contiguous:
        return "slices need not be contiguous"
    if case.replicated:
        return "slices may be replicated"
    found = kinds(case)
    if found.pace_out() is None or found.pace_in() is None:
        return "what a device pays for a transfer depends on the other side"
    if states(found) * 2 > MOST_CELLS:
        return f"{len(found.members)} kinds of devices have {states(found):,} counts, too many to keep apart"
    return ""


def states(found: Kinds) -> int:
    """Return how many vectors of counts there are."""
    total = 1
    for count in found.counts:
        total *= count + 1
    return total


def solve(
    case: LoadCase, *, most_ideals: int = MOST_IDEALS, time_limit_seconds: float = TIME_LIMIT_SECONDS
) -> Solution:
    """Return the best contiguous plan; exact unless ``given_up`` says otherwise.

    Beyond ``most_ideals``, or where the table would not fit into memory or be filled in time, ranges of a few linear
    orders are searched, and the bound is that of perfectly divided work.

    Raises:
        NoPlan: no contiguous plan fits, or none of the few that were searched; the message says which.
    """
    started = time.perf_counter()
    found = search(case, most_ideals=most_ideals, time_limit_seconds=time_limit_seconds)
    if found.stages is None:
        raise NoPlan(
            "no contiguous slicing fits the devices' memory and what each may run"
            if found.ideals
            else f"none of the ranges of {LINEAR} linear orders fits, and others were not searched"
        )
    value = verify.objective(case, found.stages)
    return Solution(
        found.stages,
        value,
        value if found.ideals else min(value, divisible(case)),
        CHAIN_METHOD if found.ideals == found.blocks + 1 else METHOD,
        bool(found.ideals),
        seconds=time.perf_counter() - started,
        given_up=found.given_up,
    )


@dataclass(frozen=True)
class Searched:
    """``stages``: the best, None where none fits. ``ideals``: how many there are; 0 where not all plans along them were
    looked at, and ``given_up`` says why."""

    stages: tuple[Stage, ...] | None
    ideals: int
    blocks: int
    given_up: str = ""


def search(
    case: LoadCase, *, most_ideals: int = MOST_IDEALS, time_limit_seconds: float = TIME_LIMIT_SECONDS
) -> Searched:
    """Return the stages of the best contiguous plan."""
    blocks, found = contract(case, contiguous=True), kinds(case)
    count, cells = len(blocks.members), max(states(found), 1)
    table = Table(case, blocks, found)
    room = min(MOST_CELLS // cells, MOST_HELD // count)
    best = _along_orders(table, room, cells, time_limit_seconds)
    until = time.perf_counter() + (1 - ROUGH_SHARE) * time_limit_seconds
    most = min(most_ideals, room)
    every = enumerate_ideals(blocks, most)
    if every is None:
        return Searched(best[1] if best else None, 0, count, f"more than {most:,} order ideals: {ONLY}")
    try:
        best = table.best(every, best[0] if best else float("inf"), until) or best
    except LateError:
        said = f"the search over {len(every):,} order ideals was ended after {time_limit_seconds:g} s: {ONLY}"
        return Searched(best[1] if best else None, 0, count, said)
    return Searched(best[1] if best else None, len(every), count)


def _along_orders(
    table: Table, room: int, cells: int, seconds: float
) -> tuple[float, tuple[Stage, ...]] | None:
    """Return the value and stages of a good plan along linear orders: by the table, where it is large from an annealed
    plan, whose value saves most of it."""
    few, best = prefixes(linear_orders(table.blocks)), None
    until = time.perf_counter() + ROUGH_SHARE * seconds
    if len(few) > room or len(few) ** 2 * cells > MOST_PAIRS:
        best = _annealed(table, ROUGH_SHARE * seconds / 2)
    if len(few) > room:
        return best
    try:
        return table.best(few, best[0] if best else float("inf"), until) or best
    except LateError:
        return best or _annealed(table, ROUGH_SHARE * seconds / 2)


def _annealed(table: Table, seconds: float) -> tuple[float, tuple[Stage, ...]] | None:
    stages = ranges.improve(table.case, table.blocks, seconds=seconds)
    return (verify.objective(table.case, stages), stages) if stages is not None else None


def enumerate_ideals(blocks: Blocks, most: int) -> list[int] | None:
    """Return every order ideal as a bit set, or None when there are more than ``most``."""
    n = len(blocks.members)
    needs, after = [0] * n, [[] for _ in range(n)]  # type: tuple[list[int], list[list[int]]]
    for u, v in blocks.edges:
        needs[v] |= 1 << u
        after[u].append(v)
    layer = {0: sum(1 << v for v in range(n) if not needs[v])}
    found = [0]
    while layer:
        grown: dict[int, int] = {}
        for ideal, ready in layer.items():
            left = ready
            while left:
                low = left & -left
                left ^= low
                larger = ideal | low
                if larger not in grown:
                    grown[larger] = ready ^ low | sum(
                        1 << w for w in after[low.bit_length() - 1] if not needs[w] & ~larger
                    )
        found += grown
        if len(found) > most:
            return None
        layer = grown
    return found
