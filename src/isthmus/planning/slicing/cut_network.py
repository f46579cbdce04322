"""The flow network whose cuts are plans of a sum over ordered tiers.

Each block of operators has one node for each tier k but the first: on the source's side when the block
runs on tier k or a later one (Ishikawa, "Exact optimization for Markov random fields with convex
priors", 2003). A signal pays each hop between tiers once, through a node of its own where it has several
readers. Where tiers are not ordered, hops back are arcs the other way.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from isthmus.errors import NoPlan
from isthmus.planning.slicing.arrays import distinct
from isthmus.planning.slicing.cut_skeleton import BITS, SINK, SOURCE, UNCUT, Skeleton, skeleton

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from isthmus.planning.slicing.arrays import Ints
    from isthmus.planning.slicing.case import Floats, SumCase
    from isthmus.planning.slicing.cut_skeleton import Hop, Nodes

EXACT = 1e-9
SHRINK = 1 - 1e-10
"""Against the rounding of the floats that a capacity is reckoned from: it never comes out above what it bounds."""
ROUNDING = 1e-13
"""Relative; by so much additive links may miss their sum, which is that of a few floats."""
BACKWARD = 1.2
"""Push-relabel takes back what it cannot deliver. Where the source can send so many times what the sink can take, it
is mostly quicker from the sink: in the mean by a sixth on some 100 generated networks, though slower on one in ten."""


@dataclass(frozen=True, eq=False)
class Network:
    """``arcs``: int32 ``[2, k]``, tails and heads; ``capacity``: int64 ``[k]``.
    A plan costs at least ``(constant + cut) / scale``.

    ``node``: int32 ``[blocks, tiers - 1]``, on the source's side when the block runs on that tier or a later one:
    2 and what follows, row by row; their arcs from the source or to the sink are the first but one.
    ``backward``: a flow is found sooner from the sink.
    """

    arcs: Nodes
    capacity: Ints
    node: Nodes
    constant: int
    scale: float
    backward: bool

    @property
    def tail(self) -> Nodes:
        """int32 ``[k]``."""
        tail: Nodes = self.arcs[0]
        return tail

    @property
    def head(self) -> Nodes:
        """int32 ``[k]``."""
        head: Nodes = self.arcs[1]
        return head


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


def build(case: SumCase) -> Network:
    """Return the network of a case to which :func:`cut.applies` has no objection.

    Raises:
        NoPlan: an operator, or what is co-located with it, may run nowhere.
    """
    import numpy as np

    graph, m = case.graph.arrays, len(case.devices)
    cost = graph.sum_blocks(case.cost)
    whole = float(np.add.reduce(cost).min())
    # No plan above the best single device is of interest, so what costs more by itself is never done.
    allowed = cost <= min(whole * (1 + EXACT), sys.float_info.max)
    odd = distinct(np.flatnonzero(~allowed.ravel()) // m)
    if len(odd):
        if not allowed[odd].any(axis=1).all():
            raise impossible(case)
        cost = cost.copy()
        cost[odd] = _fill(cost[odd], allowed[odd])
    # Twice what all tiers cost is no less than what they differ by.
    total = 2 * float(np.add.reduce(cost, axis=None))
    total += 0.0 if whole < math.inf else _most_transfers(case)
    scale = 2.0 ** min(BITS - math.frexp(total)[1], 1000) if total else 1.0
    bones = skeleton(graph, m, case.monotone)
    paid = _paid(case, bones)
    arcs, capacity = bones.draft(graph, tuple(paid))
    constant, sent, taken = _placing(arcs, capacity, units(cost, scale))
    end = len(capacity)
    for amounts in reversed(paid.values()):
        capacity[end - len(bones.signal) : end] = units(amounts, scale)
        end -= len(bones.signal)
    if len(odd):
        arcs, capacity = _pinning(arcs, capacity, bones.node, odd, allowed[odd])
    backward = sent > BACKWARD * taken
    if backward and len(odd):
        # What nodes send on that always lie on the sink's side comes back through arcs that no plan cuts.
        backward = case.monotone and sent > BACKWARD * (taken + _into_pinned(arcs, capacity, bones.node))
    return Network(arcs, capacity, bones.node, constant, scale, backward)


def units(cost: Floats, scale: float) -> Ints:
    """Return costs in whole units, rounded down."""
    import numpy as np

    scaled = cost * (scale * SHRINK)
    return np.minimum(scaled, float(UNCUT), out=scaled).astype(np.int64)


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


def _placing(arcs: Nodes, capacity: Ints, cost: Ints) -> tuple[int, int, int]:
    """Set what blocks cost on their tiers, as differences from one tier to the next; return what is left over, and
    how much the source can send and the sink take."""
    import numpy as np

    change = (cost[:, 1:] - cost[:, :-1]).ravel()
    cheaper = change < 0
    at = slice(1, 1 + len(change))
    arcs[1, at] = np.where(cheaper, arcs[0, at], SINK)
    arcs[0, at][cheaper] = SOURCE
    paid = np.abs(change, out=capacity[at])
    left, both = int(change.sum()), int(paid.sum())
    sent = (both - left) // 2
    return int(cost[:, 0].sum()) - sent, sent, both - sent


def _into_pinned(arcs: Nodes, capacity: Ints, node: Nodes) -> float:
    """Return how much nodes that always lie on the sink's side can take from others, beside what no plan cuts."""
    import numpy as np

    at = slice(1, 1 + node.size)
    late = (capacity[at] == UNCUT) & (arcs[1, at] == SINK)
    if not late.any():
        return 0.0
    pinned = np.zeros(int(arcs.max()) + 1, dtype=np.bool_)
    pinned[2 : 2 + node.size] = late
    rest = slice(1 + node.size, None)
    tail, head, most = arcs[0, rest], arcs[1, rest], capacity[rest]
    return float(most[pinned[head] & ~pinned[tail] & (most < UNCUT)].sum(dtype=np.float64))


def _pinning(
    arcs: Nodes, capacity: Ints, node: Nodes, odd: Ints, allowed: NDArray[np.bool_]
) -> tuple[Nodes, Ints]:
    """Keep blocks off the tiers that they may not run on: their costs do not change there. Return all arcs."""
    import numpy as np

    m = allowed.shape[1]
    first = allowed.argmax(axis=1)[:, None]
    last = m - 1 - allowed[:, ::-1].argmax(axis=1)[:, None]
    tier = np.arange(1, m)
    at = 1 + odd[:, None] * (m - 1) + tier - 1
    early, late = at[tier <= first], at[tier > last]
    capacity[early] = capacity[late] = UNCUT
    arcs[:, early] = [np.full(len(early), SOURCE), early + 1]
    row, k = np.nonzero(~allowed[:, 1:-1] & (tier[:-1] > first) & (tier[:-1] < last))
    if not len(row):
        return arcs, capacity
    skipped = np.stack((node[odd[row], k], node[odd[row], k + 1]))
    return np.concatenate((arcs, skipped), axis=1), np.concatenate((capacity, np.full(len(row), UNCUT)))


def _paid(case: SumCase, bones: Skeleton) -> dict[Hop, Floats]:
    """Return the hops with what each signal pays for them, float64 ``[s]``, signals as ``bones`` lists them."""
    import numpy as np

    found: dict[Hop, Floats] = {}
    sized = bones.size > 0
    for forward in bones.met:
        fixed, per_size = (way if forward else way.T for way in (case.link_fixed, case.link_per_size))
        for i, j, cost in hops(fixed)[0]:
            found[forward, i, j] = np.full(len(sized), cost)
        for i, j, cost in hops(per_size)[0] if sized.any() else ():
            # What has no size passes where a size would cost without end.
            moved = cost * bones.size if cost < math.inf else np.where(sized, cost, 0.0)
            found[forward, i, j] = found[forward, i, j] + moved if (forward, i, j) in found else moved
    return dict(sorted(found.items()))
