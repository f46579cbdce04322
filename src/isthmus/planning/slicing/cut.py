"""Exact minimum cut for sums over ordered tiers, by OR-tools' push-relabel maximum flow.

The network is :mod:`cut_network`'s. Its capacities are whole numbers, rounded down: the flow is a lower bound of
every plan's cost, and a plan that costs no more is the best.
"""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, NamedTuple

from isthmus.errors import InvalidCase, PlanUnsound
from isthmus.planning.slicing.arrays import broken, score, stages_of
from isthmus.planning.slicing.cut_network import EXACT, Network, build, hops, impossible
from isthmus.planning.slicing.cut_skeleton import SINK, SOURCE, UNCUT
from isthmus.planning.slicing.solution import CutCertificate, Solution

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from isthmus.planning.slicing.arrays import Ints
    from isthmus.planning.slicing.case import SumCase

METHOD = "minimum cut"
KEPT_BYTES = 1 << 24


def applies(case: SumCase) -> str:
    """Return why the case is no cut, in words; empty when it is one.

    A cut leaves out memory and limits: where its plan keeps them, it is the best with them too. A signal with
    readers on several tiers pays each hop once in the cut, and each tier in truth: with three tiers or more the
    value can then lie above the bound, and ``Solution.exact`` says whether it does.
    """
    sized = bool((case.graph.arrays.size > 0).any())
    for what, matrix in (("fixed costs", case.link_fixed), ("costs per size", case.link_per_size)):
        if what == "costs per size" and not sized:
            continue
        for way in (matrix,) if case.monotone else (matrix, matrix.T):
            skipped = hops(way)[1]
            if skipped:
                a, b = (case.devices[d] for d in skipped)
                return f"between {a} and {b} the links' {what} are below those of the hops between: no cut counts that"
    return ""


def minimum_cut(case: SumCase) -> Solution:
    """Return the best plan without limits of memory or sums, with a flow that proves its bound.

    ``exact`` when the plan keeps every limit and costs no more than the bound. ``given_up`` names what it breaks.

    Raises:
        InvalidCase: :func:`applies` says why.
        NoPlan: no plan is possible even without limits.
    """
    started = time.perf_counter()
    if reason := applies(case):
        raise InvalidCase(f"needs links that a minimum cut can count: {reason}")
    network = build(case)
    found = maximum_flow(network)
    bound = (network.constant + found.value) / network.scale
    if bound * network.scale >= UNCUT // 2:
        raise impossible(case)
    device_of = _tiers(network, found.on_source_side)
    paid = score(case.graph, device_of, case.cost, case.link_fixed, case.link_per_size)
    passed = broken(case, device_of)
    exact = not passed and paid <= bound * (1 + EXACT)
    return Solution(
        stages=stages_of(case.graph, device_of),
        value=paid,
        bound=bound,
        method=METHOD,
        exact=exact,
        seconds=time.perf_counter() - started,
        given_up=_given_up(passed, exact),
        certificate=CutCertificate(network.arcs.T, network.capacity, found.flow, network.scale),
    )


def _given_up(passed: list[str], exact: bool) -> str:
    if passed:
        return f"the cut leaves out {', '.join(passed)}, and its plan does not keep it"
    return "" if exact else "the cut counts a hop once for all tiers that a signal is read on"


def _tiers(network: Network, on_source_side: NDArray[np.bool_]) -> Ints:
    """Return each block's tier, int64 ``[blocks]``: how many of its nodes are on the source's side."""
    import numpy as np

    blocks, hops = network.node.shape
    sides = on_source_side[2 : 2 + network.node.size].reshape(blocks, hops)
    found = np.zeros(blocks, dtype=np.int64)
    for k in range(hops):
        found += sides[:, k]
    return found


class Flow(NamedTuple):
    """``flow``: int64 ``[k]``, by arc; ``value``: what reaches the sink. ``on_source_side``: bool by node, of a
    minimum cut."""

    flow: Ints
    value: int
    on_source_side: NDArray[np.bool_]


def maximum_flow(network: Network) -> Flow:
    """Return a maximum flow and a minimum cut.

    Raises:
        PlanUnsound: OR-tools found none.
    """
    import numpy as np
    from ortools.graph.python.max_flow import SimpleMaxFlow

    _keep_memory()
    solver = SimpleMaxFlow()
    ends, start, goal = network.arcs, SOURCE, SINK
    if network.backward:
        ends, start, goal = ends[::-1], goal, start
    arcs = solver.add_arcs_with_capacity(*ends, network.capacity)
    status = solver.solve(start, goal)
    if status != solver.OPTIMAL:
        raise PlanUnsound(f"needs a maximum flow; OR-tools ended with {status}")
    flow = solver.flows(arcs)
    # Either side of a minimum cut tells the other; the one that more arcs lead into is the longer list.
    at = slice(1, 1 + network.node.size)
    spare, sent = network.capacity[at] > flow[at], network.tail[at] == SOURCE
    by_sink = np.count_nonzero(spare & sent) > np.count_nonzero(spare & ~sent)
    nodes = solver.get_sink_side_min_cut if by_sink != network.backward else solver.get_source_side_min_cut
    # Nodes without an arc of capacity are not in OR-tools' count.
    side = np.full(max(solver.num_nodes(), network.node.size + 2), by_sink)
    listed = nodes()
    side[np.fromiter(listed, dtype=np.intp, count=len(listed))] = not by_sink
    return Flow(flow, solver.optimal_flow(), side)


@functools.cache
def _keep_memory() -> None:
    """Let the allocator keep what a flow frees for the next one, if it is glibc's.

    glibc keeps at its top twice the largest block that it ever gave back by itself, and returns the rest to the
    system, page by page; to fetch it anew takes up to a fifth of a flow's time. The block is never written to.
    """
    import numpy as np

    np.empty(KEPT_BYTES, dtype=np.uint8)
