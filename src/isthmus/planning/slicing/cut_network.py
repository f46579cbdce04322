"""The flow network whose cuts are plans of a sum over ordered tiers.

Each block of operators has one node for each tier k but the first: on the source's side when the block
runs on tier k or a later one (Ishikawa, "Exact optimization for Markov random fields with convex
priors", 2003). A signal pays each hop between tiers once, through a node of its own where it has several
readers. Where tiers are not ordered, hops back are arcs the other way.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from isthmus.errors import NoPlan
from isthmus.planning.slicing.arrays import distinct

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from isthmus.planning.slicing.arrays import GraphArrays, Ints
    from isthmus.planning.slicing.case import Floats, SumCase

    Nodes = NDArray[np.int32]

SOURCE, SINK = 0, 1
EXACT = 1e-9
SHRINK = 1 - 1e-10
"""Against the rounding of the floats that a capacity is reckoned from: it never comes out above what it bounds."""
ROUNDING = 1e-13
"""Relative; by so much additive links may miss their sum, which is that of a few floats."""
BITS = 59
UNCUT = 1 << (BITS + 1)
"""Capacity of an arc that no allowed plan cuts; all finite capacities together stay below half of it."""


@dataclass(frozen=True, eq=False)
class Network:
    """``tail``, ``head``: int32 ``[k]``; ``capacity``: int64 ``[k]``.
    A plan costs at least ``(constant + cut) / scale``.

    ``node``: int32 ``[blocks, tiers - 1]``, on the source's side when the block runs on that tier or a later one.
    """

    tail: Nodes
    head: Nodes
    capacity: Ints
    node: Nodes
    constant: int
    scale: float


def impossible(case: SumCase) -> NoPlan:
    """Return the refusal of a case that no plan fits, even without limits."""
    from isthmus.planning.slicing.relax import explain

    return NoPlan(explain(case))


def hops(links: Floats) -> tuple[list[tuple[int, int, float]], tuple[int, int] | None]:
    """Split links from each tier to later ones into hops ``(i, j, cost)``, paid when data passes from below tier
    i to tier j or above, so that ``links[d, e]`` is the sum over ``d < i <= j <= e``. Additive links have ``i == j``.

    The second value names a pair of tiers whose link costs less than the hops within it, which no hops add up to.
    """
    found: list[tuple[int, int, float]] = []
    table = links.tolist()
    m = len(table)
    for span in range(1, m):
        for d in range(m - span):
            e = d + span
            whole = table[d][e]
            parts = (table[d + 1][e], table[d][e - 1]) if span > 1 else (0.0, 0.0)
            inner = table[d + 1][e - 1] if span > 2 else 0.0
            if math.inf in parts:
                # What lies within cannot be sent; that is counted already.
                if whole < math.inf:
                    return [], (d, e)
                continue
            cost = whole - parts[0] - parts[1] + inner
            if cost < 0 and cost < -ROUNDING * whole:
                return [], (d, e)
            if cost == math.inf or cost > ROUNDING * whole:
                found.append((d + 1, e, cost))
    return found, None


@dataclass(frozen=True, eq=False)
class Skeleton:
    """What networks of a graph have in common, whatever costs: ``node`` as in :class:`Network`, and arcs that no
    allowed plan cuts. ``met``: int32 ``[tiers - 1, signals with several readers]``, their nodes, by whether data
    moves forward; ``crossing``: arcs of a hop with the signal of each, int64, kept once asked for.
    """

    node: Nodes
    tail: Nodes
    head: Nodes
    met: dict[bool, Nodes]
    crossing: dict[tuple[bool, int, int], tuple[Nodes, Nodes, Ints]] = field(default_factory=dict)

    def hop(self, graph: GraphArrays, forward: bool, i: int, j: int) -> tuple[Nodes, Nodes, Ints]:
        """Return the arcs that signals cut that pass from below tier i to j or above, or back."""
        import numpy as np

        if (forward, i, j) not in self.crossing:
            (alone, reader), (_, several, _) = graph.read_once, graph.read_often
            far, near = (j - 1, i - 1) if forward else (i - 1, j - 1)
            signal = np.concatenate((alone, several))
            ends = (
                np.concatenate((self.node[reader, far], self.met[forward][far])),
                self.node[graph.producer[signal], near],
            )
            self.crossing[forward, i, j] = (*(ends if forward else ends[::-1]), signal)
        return self.crossing[forward, i, j]


def skeleton(graph: GraphArrays, m: int, monotone: bool) -> Skeleton:
    """Return the skeleton for m tiers; it is made once."""
    import numpy as np

    if (m, monotone) in graph.skeletons:
        return graph.skeletons[m, monotone]
    node = np.arange(2, 2 + graph.blocks * (m - 1), dtype=np.int32).reshape(graph.blocks, m - 1)
    readers, several, position = graph.read_often
    ways = (True,) if monotone else (False, True)
    size = (m - 1) * len(several)
    met = {
        forward: np.arange(size, dtype=np.int32).reshape(m - 1, len(several))
        + np.int32(2 + node.size + k * size)
        for k, forward in enumerate(ways)
    }
    # A later tier implies an earlier one; a signal's node lies on the source's side with its first reader there.
    arcs = [(node[:, 1:], node[:, :-1])]
    arcs += [(node[readers].T, met[True][:, position])]
    arcs += [(met[False][:, position], node[readers].T)] if not monotone else []
    arcs += [(node[graph.edges[:, 0]], node[graph.edges[:, 1]])] if monotone else []
    tail, head = (np.concatenate([arc[end].ravel() for arc in arcs]) for end in (0, 1))
    graph.skeletons[m, monotone] = Skeleton(node, tail, head, met)
    return graph.skeletons[m, monotone]


def build(case: SumCase) -> Network:
    """Return the network of a case to which :func:`cut.applies` has no objection.

    Raises:
        NoPlan: an operator, or what is co-located with it, may run nowhere.
    """
    import numpy as np

    graph, m = case.graph.arrays, len(case.devices)
    cost = graph.sum_blocks(case.cost)
    whole = float((np.ones(len(cost)) @ cost).min())
    # No plan above the best single device is of interest, so what costs more by itself is never done.
    allowed = cost <= min(whole * (1 + EXACT), sys.float_info.max)
    odd = distinct(np.flatnonzero(~allowed.ravel()) // m)
    if len(odd):
        if not allowed[odd].any(axis=1).all():
            raise impossible(case)
        cost = cost.copy()
        cost[odd] = _fill(cost[odd], allowed[odd])
    total = float(cost[:, 0].sum() + np.abs(np.diff(cost)).sum())
    total += 0.0 if whole < math.inf else _most_transfers(case)
    scale = 2.0 ** min(BITS - math.frexp(total)[1], 1000) if total else 1.0
    bones = skeleton(graph, m, case.monotone)
    arcs = _Arcs(bones)
    constant = _placing(arcs, bones.node, units(cost, scale))
    _pinning(arcs, bones.node[odd], allowed[odd])
    for forward in bones.met:
        links = [matrix if forward else matrix.T for matrix in (case.link_fixed, case.link_per_size)]
        for i, j, paid in _per_signal(links[0], links[1], graph.size):
            tail, head, signal = bones.hop(graph, forward, i, j)
            arcs.add(tail, head, units(paid, scale)[signal])
    return Network(*arcs.all(), bones.node, constant, scale)


def units(cost: Floats, scale: float) -> Ints:
    """Return costs in whole units, rounded down."""
    import numpy as np

    return np.minimum(cost * (scale * SHRINK), float(UNCUT)).astype(np.int64)


class _Arcs:
    """Arcs collected as arrays; one without capacity makes sure that both ends exist."""

    def __init__(self, bones: Skeleton) -> None:
        import numpy as np

        self.tails = [np.array([SOURCE], dtype=np.int32), bones.tail]
        self.heads = [np.array([SINK], dtype=np.int32), bones.head]
        self.capacities = [np.zeros(1, dtype=np.int64), np.full(len(bones.tail), UNCUT)]

    def add(self, tail: Nodes, head: Nodes, capacity: Ints) -> None:
        """Add arcs of one shape, ``[k]``."""
        self.tails.append(tail)
        self.heads.append(head)
        self.capacities.append(capacity)

    def add_ends(self, node: Nodes, capacity: Ints, *, source: bool) -> None:
        """Add arcs between nodes and one end of the network where there is a capacity."""
        import numpy as np

        kept = np.flatnonzero(capacity > 0)
        end = np.full(len(kept), SOURCE if source else SINK, dtype=np.int32)
        inner = node.ravel()[kept]
        tail, head = (end, inner) if source else (inner, end)
        self.add(tail, head, capacity.ravel()[kept])

    def all(self) -> tuple[Nodes, Nodes, Ints]:
        """Return them in one."""
        import numpy as np

        return np.concatenate(self.tails), np.concatenate(self.heads), np.concatenate(self.capacities)


def _fill(cost: Floats, allowed: NDArray[np.bool_]) -> Floats:
    """Give a tier that is not allowed the cost of the one before that is, or else of the first that is."""
    import numpy as np

    tiers = np.where(allowed, np.arange(cost.shape[1]), -1)
    before = np.maximum.accumulate(tiers, axis=1)
    before = np.where(before < 0, allowed.argmax(axis=1)[:, None], before)
    return np.take_along_axis(cost, before, axis=1)


def _most_transfers(case: SumCase) -> float:
    """Return what no plan's transfers pass in the cut, each signal counted once each way."""
    import numpy as np

    fixed, per_size = (
        float(np.max(matrix, where=np.isfinite(matrix), initial=0.0))
        for matrix in (case.link_fixed, case.link_per_size)
    )
    graph = case.graph.arrays
    return 2 * (fixed * len(graph.size) + per_size * float(graph.size.sum()))


def _placing(arcs: _Arcs, node: Nodes, cost: Ints) -> int:
    """Add what blocks cost on their tiers, as differences from one tier to the next; return what is left over."""
    import numpy as np

    change = np.diff(cost)
    arcs.add_ends(node, -change, source=True)
    arcs.add_ends(node, change, source=False)
    return int(cost[:, 0].sum()) + int(np.minimum(change, 0).sum())


def _pinning(arcs: _Arcs, node: Nodes, allowed: NDArray[np.bool_]) -> None:
    """Keep blocks off the tiers that they may not run on."""
    import numpy as np

    first = allowed.argmax(axis=1)[:, None]
    last = allowed.shape[1] - 1 - allowed[:, ::-1].argmax(axis=1)[:, None]
    tier = np.arange(1, allowed.shape[1])
    arcs.add_ends(node, np.where(tier <= first, UNCUT, 0), source=True)
    arcs.add_ends(node, np.where(tier > last, UNCUT, 0), source=False)
    row, k = np.nonzero(~allowed[:, 1:-1] & (tier[:-1] > first) & (tier[:-1] < last))
    arcs.add(node[row, k], node[row, k + 1], np.full(len(row), UNCUT))


def _per_signal(fixed: Floats, per_size: Floats, size: Floats) -> list[tuple[int, int, Floats]]:
    """Return the hops ``(i, j)`` with what each signal pays for them, float64 ``[s]``."""
    import numpy as np

    found: dict[tuple[int, int], Floats] = {(i, j): np.full(len(size), cost) for i, j, cost in hops(fixed)[0]}
    sized = size > 0
    for i, j, cost in hops(per_size)[0] if sized.any() else ():
        moved = np.where(sized, cost, 0.0) * np.where(sized, size, 1.0)
        found[i, j] = found.get((i, j), 0.0) + moved
    return [(i, j, cost) for (i, j), cost in sorted(found.items())]
