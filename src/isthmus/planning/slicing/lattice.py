"""Exact contiguous slicing: dynamic programming over order ideals and counts of devices.

A contiguous plan is a chain of order ideals (sets of blocks closed under predecessors): each slice is
what one ideal has more than the one before (Tarnawski et al., "Efficient Algorithms for Device
Placement of DNN Graph Operators", NeurIPS 2020). Devices of one kind are counted, not named. For a
chain of operators the ideals are its prefixes.

What we add: only signals that leave the inner ideal are looked at; pairs of ideals further apart than a
plan already found are never formed; states whose left-over work cannot fit the left-over devices are
never filled.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from isthmus.errors import NoPlan
from isthmus.planning.slicing import verify
from isthmus.planning.slicing.blocks import Blocks, contract
from isthmus.planning.slicing.kinds import Kinds, kinds
from isthmus.planning.slicing.solution import Solution, Stage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from isthmus.planning.slicing.case import Floats, LoadCase

MOST_IDEALS = 60_000
MOST_CELLS = 40_000_000
"""Entries of a table: 8 bytes of value and 16 of its way for each."""
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


def solve(case: LoadCase, *, most_ideals: int = MOST_IDEALS) -> Solution:
    """Return the best contiguous plan; exact unless ``given_up`` says otherwise.

    Beyond ``most_ideals``, or where the table would not fit into memory, ranges of a few linear orders are
    searched, and the bound is that of perfectly divided work.

    Raises:
        NoPlan: no contiguous plan fits; only where the search was exhaustive.
    """
    started = time.perf_counter()
    blocks, found = contract(case, contiguous=True), kinds(case)
    table = Table(case, blocks, found)
    few = table.linear()
    rough = table.best(few, float("inf"))
    limit = rough[0] if rough else float("inf")
    most = min(most_ideals, MOST_CELLS // max(states(found), 1))
    every = enumerate_ideals(blocks, most)
    best = table.best(every, limit) if every is not None else rough
    if best is None:
        if every is not None:
            raise NoPlan("no contiguous slicing fits the devices' memory and what each may run")
        raise NoPlan(f"none of the {len(few):,} prefixes searched fits; the network has more than {most:,}")
    value = verify.objective(case, best[1])
    chain = every is not None and len(every) == len(blocks.members) + 1
    if every is not None:
        return Solution(
            best[1],
            value,
            value,
            CHAIN_METHOD if chain else METHOD,
            True,
            seconds=time.perf_counter() - started,
        )
    return Solution(
        best[1],
        value,
        min(value, divisible(case)),
        METHOD,
        False,
        seconds=time.perf_counter() - started,
        given_up=f"more than {most:,} order ideals: only ranges of {LINEAR} linear orders were searched",
    )


LINEAR = 3
"""Linear orders whose prefixes give a first plan."""


def linear_orders(blocks: Blocks) -> list[tuple[int, ...]]:
    """Return topological orders of the blocks: as they are numbered, breadth first and depth first."""
    n = len(blocks.members)
    after: list[list[int]] = [[] for _ in range(n)]
    for u, v in blocks.edges:
        after[u].append(v)
    found = [tuple(range(n))]
    for last in (False, True):
        waiting = [0] * n
        for _, v in blocks.edges:
            waiting[v] += 1
        ready = [v for v in range(n) if not waiting[v]]
        order = []
        while ready:
            v = ready.pop(-1 if last else 0)
            order.append(v)
            for w in after[v]:
                waiting[w] -= 1
                if not waiting[w]:
                    ready.append(w)
        found.append(tuple(order))
    return found


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


class Table:
    """What the kernel reads of a case, and how its answer becomes stages."""

    def __init__(self, case: LoadCase, blocks: Blocks, found: Kinds) -> None:
        import numpy as np

        self.case, self.blocks, self.kinds = case, blocks, found
        first = [members[0] for members in found.members]
        columns = blocks.seconds[:, first]
        self.barred = ~np.isfinite(columns)
        self.seconds: Floats = np.where(self.barred, 0.0, columns)
        self.least: Floats = np.min(columns, axis=1)
        self.room: Floats = case.capacity_bytes[first] * (1 + verify.TOLERANCE)
        out, into = found.pace_out(), found.pace_in()
        if out is None or into is None:
            raise NoPlan("needs transfers whose cost does not depend on the other side")
        self.out, self.into = out, into
        self.first = np.cumsum([0, *map(len, blocks.consumers)], dtype=np.int64)
        self.readers = np.array(list(itertools.chain(*blocks.consumers)), dtype=np.int64)

    def linear(self) -> list[int]:
        """Return the prefixes of a few linear orders."""
        found = {0}
        for order in linear_orders(self.blocks):
            ideal = 0
            for v in order:
                ideal |= 1 << v
                found.add(ideal)
        return list(found)

    def best(self, ideals: Sequence[int], limit: float) -> tuple[float, tuple[Stage, ...]] | None:
        """Return the least largest load of plans along these ideals that is at most ``limit``, and its stages."""
        import numpy as np

        from isthmus.planning.slicing import lattice_kernel as kernel

        if not np.isfinite(self.least).all():
            return None
        bits, holds = _bits(ideals, len(self.blocks.members))
        least = holds @ self.least
        order = np.lexsort((holds.sum(axis=1), least))
        bits, holds, least = bits[order], holds[order], least[order]
        starts, leaving, total = kernel.crossing(
            bits, self.blocks.producer, self.blocks.size, self.first, self.readers
        )
        top = float(
            max(self.seconds.sum(), 0.0) + 2 * self.blocks.size.sum() * max(*self.out, *self.into, 0.0)
        )
        value, before, kind = kernel.best_slices(
            bits,
            least,
            holds @ self.seconds,
            (holds @ self.barred).round().astype(np.int64),
            holds @ self.blocks.memory_bytes,
            (starts, leaving, total, self.blocks.size, self.first, self.readers),
            self.out,
            self.into,
            self.room,
            np.array(self.kinds.counts, dtype=np.int64),
            self.case.overlap,
            min(limit, top),
        )
        if not np.isfinite(value[-1, -1]):
            return None
        return float(value[-1, -1]), tuple(self._stages(bits, before, kind))

    def _stages(
        self, bits: NDArray[np.uint64], before: NDArray[np.int64], kind: NDArray[np.int64]
    ) -> Iterable[Stage]:
        """Walk back from the whole network, and give each slice a device of its kind that is still free."""
        import numpy as np

        steps = np.cumprod([1, *(count + 1 for count in self.kinds.counts)])
        outer, state = bits.shape[0] - 1, before.shape[1] - 1
        found: list[tuple[list[int], int]] = []
        while outer:
            inner, t = int(before[outer, state]), int(kind[outer, state])
            inside = np.unpackbits((bits[outer] & ~bits[inner]).view(np.uint8), bitorder="little")
            found.append(([int(k) for k in np.flatnonzero(inside)], t))
            outer, state = inner, state - int(steps[t])
        free = [list(members) for members in self.kinds.members]
        for blocks, t in reversed(found):
            operators = sorted(v for k in blocks for v in self.blocks.members[k])
            yield Stage(tuple(operators), (free[t].pop(0),))


def _bits(ideals: Sequence[int], blocks: int) -> tuple[NDArray[np.uint64], Floats]:
    """Return bit sets as words ``[M, W]`` and as float64 ``[M, b]`` of zeros and ones."""
    import numpy as np

    width = (blocks + 63) // 64 * 8
    raw = np.frombuffer(b"".join(ideal.to_bytes(width, "little") for ideal in ideals), dtype=np.uint8)
    packed = raw.reshape(len(ideals), width)
    holds = np.unpackbits(packed, axis=1, bitorder="little")[:, :blocks].astype(np.float64)
    return packed.view(np.uint64).copy(), holds


def divisible(case: LoadCase) -> float:
    """Return a bound: every operator's work divided at will over the devices that may run it, transfers free.

    A linear programme over kinds of blocks: min T with, for each kind t, ``sum_v seconds[v, t] x[v, t] <= count_t T``.
    """
    import numpy as np
    from scipy.optimize import linprog
    from scipy.sparse import coo_array

    found = kinds(case)
    first = [members[0] for members in found.members]
    columns = case.seconds[:, first]
    v, t = np.nonzero(np.isfinite(columns))
    n, cells = len(columns), len(v)
    load = coo_array((columns[v, t], (t, np.arange(cells))), shape=(len(first), cells + 1)).tolil()
    load[:, cells] = -np.array(found.counts, dtype=np.float64)[:, None]
    once = coo_array((np.ones(cells), (v, np.arange(cells))), shape=(n, cells + 1))
    price = np.zeros(cells + 1)
    price[cells] = 1.0
    answer: Any = linprog(
        price,
        A_ub=load.tocsr(),
        b_ub=np.zeros(len(first)),
        A_eq=once.tocsr(),
        b_eq=np.ones(n),
        method="highs",
    )
    return float(answer.fun) * (1 - 1e-9) if answer.status == 0 else 0.0
