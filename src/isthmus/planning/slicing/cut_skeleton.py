"""What the flow networks of one graph have in common, whatever costs: nodes and arcs, kept from plan to plan."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from isthmus.planning.slicing.arrays import GraphArrays, Ints
    from isthmus.planning.slicing.case import Floats

    Nodes = NDArray[np.int32]

SOURCE, SINK = 0, 1
BITS = 59
UNCUT = 1 << (BITS + 1)
"""Capacity of an arc that no allowed plan cuts; all finite capacities together stay below half of it."""
Hop = tuple[bool, int, int]
"""Whether data moves forward; then tiers as in :func:`hops`."""


@dataclass(frozen=True, eq=False)
class Skeleton:
    """What networks of a graph have in common, whatever costs: ``node`` as in :class:`Network`, and ``tail`` and
    ``head`` of arcs that no allowed plan cuts. ``met``: int32 ``[tiers - 1, signals with several readers]``, their
    nodes, by whether data moves forward. ``signal``: int64 ``[s]``, in the order in which hops list them, and
    ``size``: float64 ``[s]``, theirs. ``drafts``: networks without figures, by their hops, kept once asked for.
    """

    node: Nodes
    tail: Nodes
    head: Nodes
    met: dict[bool, Nodes]
    signal: Ints
    size: Floats
    drafts: dict[tuple[Hop, ...], tuple[Nodes, Ints]] = field(default_factory=dict)

    def draft(self, graph: GraphArrays, crossed: tuple[Hop, ...]) -> tuple[Nodes, Ints]:
        """Return arcs, int32 ``[2, k]``, and capacities, int64 ``[k]``: one from the source to the sink, one at each
        node for what its block costs, those that no plan cuts, and those of each hop. What costs has 0."""
        import numpy as np

        if crossed not in self.drafts:
            inner = self.node.ravel()
            ends = [(np.array([SOURCE]), np.array([SINK])), (inner, np.full_like(inner, SINK))]
            ends += [(self.tail, self.head), *(self._hop(graph, *hop) for hop in crossed)]
            arcs = np.array([np.concatenate([part[end] for part in ends]) for end in (0, 1)], dtype=np.int32)
            capacity = np.zeros(arcs.shape[1], dtype=np.int64)
            capacity[1 + len(inner) :][: len(self.tail)] = UNCUT
            self.drafts[crossed] = arcs, capacity
        arcs, capacity = self.drafts[crossed]
        return arcs.copy(), capacity.copy()

    def _hop(self, graph: GraphArrays, forward: bool, i: int, j: int) -> tuple[Nodes, Nodes]:
        """Return the arcs that signals cut that pass from below tier i to j or above, or back."""
        import numpy as np

        far, near = (j - 1, i - 1) if forward else (i - 1, j - 1)
        ends = (
            np.concatenate((self.node[graph.read_once[1], far], self.met[forward][far])),
            self.node[graph.producer[self.signal], near],
        )
        return ends if forward else ends[::-1]


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
    signal = np.concatenate((graph.read_once[0], several))
    graph.skeletons[m, monotone] = Skeleton(node, tail, head, met, signal, graph.size[signal])
    return graph.skeletons[m, monotone]
