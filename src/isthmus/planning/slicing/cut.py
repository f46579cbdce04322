"""Exact minimum cut for sums over ordered tiers, by OR-tools' push-relabel maximum flow.

The network is :mod:`cut_network`'s. Its capacities are whole numbers, rounded down: the flow is a lower bound of
every plan's cost, and a plan that costs no more is the best.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from isthmus.errors import InvalidCase, PlanUnsound
from isthmus.planning.slicing.arrays import broken, score, stages_of
from isthmus.planning.slicing.cut_network import EXACT, SINK, SOURCE, UNCUT, Network, build, hops, impossible
from isthmus.planning.slicing.solution import CutCertificate, Solution

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from isthmus.planning.slicing.arrays import Ints
    from isthmus.planning.slicing.case import SumCase

METHOD = "minimum cut"


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
    flow, on_source_side = maximum_flow(network)
    bound = (network.constant + int(flow[network.tail == SOURCE].sum())) / network.scale
    if bound * network.scale >= UNCUT // 2:
        raise impossible(case)
    device_of = on_source_side[network.node].sum(axis=1)
    value = score(case.graph, device_of, case.cost, case.link_fixed, case.link_per_size)
    passed = broken(case, device_of)
    exact = not passed and value <= bound * (1 + EXACT)
    return Solution(
        stages=stages_of(case.graph, device_of),
        value=value,
        bound=bound,
        method=METHOD,
        exact=exact,
        seconds=time.perf_counter() - started,
        given_up=_given_up(passed, exact),
        certificate=_certificate(network, flow),
    )


def _given_up(passed: list[str], exact: bool) -> str:
    if passed:
        return f"the cut leaves out {', '.join(passed)}, and its plan does not keep it"
    return "" if exact else "the cut counts a hop once for all tiers that a signal is read on"


def _certificate(network: Network, flow: Ints) -> CutCertificate:
    import numpy as np

    arcs = np.stack((network.tail, network.head), axis=1)
    return CutCertificate(arcs, network.capacity, flow, network.scale)


def maximum_flow(network: Network) -> tuple[Ints, NDArray[np.bool_]]:
    """Return a maximum flow, int64 by arc, and whether each node is on the source's side of a minimum cut."""
    import numpy as np
    from ortools.graph.python.max_flow import SimpleMaxFlow

    solver = SimpleMaxFlow()
    arcs = solver.add_arcs_with_capacity(network.tail, network.head, network.capacity)
    status = solver.solve(SOURCE, SINK)
    if status != solver.OPTIMAL:
        raise PlanUnsound(f"needs a maximum flow; OR-tools ended with {status}")
    flow = solver.flows(arcs)
    spare = network.capacity > flow
    # Either side of a minimum cut tells the other; the one that more arcs lead into is the longer list.
    by_sink = np.count_nonzero(spare[network.tail == SOURCE]) > np.count_nonzero(spare[network.head == SINK])
    # Nodes without an arc of capacity are not in OR-tools' count.
    side = np.full(max(solver.num_nodes(), int(network.node.max(initial=0)) + 1), by_sink)
    side[solver.get_sink_side_min_cut() if by_sink else solver.get_source_side_min_cut()] = not by_sink
    return flow, side
