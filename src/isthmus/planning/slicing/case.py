"""What a solver sees: a graph of operators, and what they cost on each device. Numbers only.

Two families of objective share the graph. A :class:`LoadCase` minimises the load of the most loaded
device (the slowest stage: throughput). A :class:`SumCase` minimises a sum over operators and transfers
(latency of one request run serially, cost, energy).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from isthmus.errors import InvalidCase

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from isthmus.planning.slicing.arrays import GraphArrays

    Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Signal:
    """One tensor: sent once to each device that holds a consumer. ``size`` in the case's unit (bytes,
    or published seconds of transfer); ``consumers`` are operators other than the producer."""

    producer: int
    consumers: tuple[int, ...]
    size: float


@dataclass(frozen=True, eq=False)
class Graph:
    """``names``: the operators, by index. ``order``: edges that carry nothing, or whose size is in no signal.

    ``groups[v]``: operators of one number are co-located (shared parameters, a backward node with its
    forward node). ``backward[v]``: the operator is part of the backward pass: it goes where the forward ones of its
    group are, and one without any takes part in reverse.

    Raises:
        InvalidCase: no operators, an index out of range, a negative or non-finite size, or a cycle.
    """

    names: tuple[str, ...]
    signals: tuple[Signal, ...]
    order: tuple[tuple[int, int], ...] = ()
    groups: tuple[int, ...] = ()
    backward: tuple[bool, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.names)
        if not count:
            raise InvalidCase("the network has no operators; there is nothing to plan")
        for what, values in (("groups", self.groups), ("backward", self.backward)):
            if values and len(values) != count:
                raise InvalidCase(f"needs {what} for {count} operators; there are {len(values)}")
        for producer, consumer in (
            *self.order,
            *((s.producer, c) for s in self.signals for c in s.consumers),
        ):
            if not (0 <= producer < count and 0 <= consumer < count):
                raise InvalidCase(
                    f"edge {producer} -> {consumer} names an operator that is not there; there are {count}"
                )
        for signal in self.signals:
            if not 0 <= signal.size < float("inf"):
                raise InvalidCase(
                    f"the output of {self.names[signal.producer]} has size {signal.size}; "
                    f"it must be finite and at least 0"
                )
        self.topological  # noqa: B018 - raises on a cycle

    @functools.cached_property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """Distinct precedence edges, sorted."""
        found = {(s.producer, c) for s in self.signals for c in s.consumers} | set(self.order)
        return tuple(sorted((u, v) for u, v in found if u != v))

    @functools.cached_property
    def successors(self) -> tuple[tuple[int, ...], ...]:
        """Of each operator, ascending."""
        found: list[list[int]] = [[] for _ in self.names]
        for u, v in self.edges:
            found[u].append(v)
        return tuple(tuple(entry) for entry in found)

    @functools.cached_property
    def predecessors(self) -> tuple[tuple[int, ...], ...]:
        """Of each operator, ascending."""
        found: list[list[int]] = [[] for _ in self.names]
        for u, v in self.edges:
            found[v].append(u)
        return tuple(tuple(entry) for entry in found)

    @functools.cached_property
    def topological(self) -> tuple[int, ...]:
        """An order of the operators in which producers come first; of several ready, the smallest index.

        Raises:
            InvalidCase: there is none; the message names one cycle's operators.
        """
        import heapq

        waiting = [len(entry) for entry in self.predecessors]
        ready = [v for v, count in enumerate(waiting) if not count]
        found = []
        while ready:
            v = heapq.heappop(ready)
            found.append(v)
            for w in self.successors[v]:
                waiting[w] -= 1
                if not waiting[w]:
                    heapq.heappush(ready, w)
        if len(found) < len(self.names):
            raise InvalidCase(f"the network has a cycle: {self._cycle(set(found))}")
        return tuple(found)

    def _cycle(self, outside: set[int]) -> str:
        """Name the operators of one cycle among those that could not be ordered."""
        v = next(v for v in range(len(self.names)) if v not in outside)
        path: list[int] = []
        while v not in path:
            path.append(v)
            v = next(u for u in self.predecessors[v] if u not in outside)
        cycle = [*path[path.index(v) :], v][::-1]
        return " -> ".join(self.names[u] for u in cycle)

    @functools.cached_property
    def arrays(self) -> GraphArrays:
        """The same by blocks of co-located operators, for the models that are built from arrays."""
        from isthmus.planning.slicing.arrays import graph_arrays

        return graph_arrays(self)

    @functools.cached_property
    def colocated(self) -> tuple[tuple[int, ...], ...]:
        """The groups as sets of operators, in the order of their first member; alone where not grouped."""
        if not self.groups:
            return tuple((v,) for v in range(len(self.names)))
        found: dict[int, list[int]] = {}
        for v, group in enumerate(self.groups):
            found.setdefault(group, []).append(v)
        return tuple(tuple(members) for members in found.values())


@dataclass(frozen=True, eq=False)
class LoadCase:
    """Minimise the load of the most loaded device, in seconds a sample.

    Shapes, for n operators and m devices:

    ``seconds``: float64 ``[n, m]``, inf where the operator may not or cannot run.
    ``memory_bytes``: float64 ``[n]``; ``capacity_bytes``: float64 ``[m]``, inf for no limit.
    ``send_seconds``: float64 ``[m, m]``, seconds per unit of size that device d is busy when it sends to
    e; a signal is sent once, at the pace of its slowest receiver. ``receive_seconds``: what e is busy.
    ``overlap``: a device computes, sends and receives at once: its load is the largest of the three,
    not their sum.
    ``contiguous``: the slices form a pipeline: the graph of slices has no cycle, by the edges of the forward pass
    (and, reversed, those of backward operators that are co-located with no forward one).
    ``replicated``: a slice may run on several devices, each with a share of the samples.
    """

    graph: Graph
    devices: tuple[str, ...]
    seconds: Floats
    memory_bytes: Floats
    capacity_bytes: Floats
    send_seconds: Floats
    receive_seconds: Floats
    overlap: bool = False
    contiguous: bool = True
    replicated: bool = False

    def __post_init__(self) -> None:
        check(self.graph, self.devices, self.seconds, self.memory_bytes, self.capacity_bytes)
        check_links(self.devices, self.send_seconds, self.receive_seconds)


@dataclass(frozen=True, eq=False)
class Limit:
    """Another sum that must stay at or below ``most``: a deadline beside a cost, a price beside a latency.
    Shapes as in :class:`SumCase`."""

    name: str
    unit: str
    most: float
    cost: Floats
    link_fixed: Floats
    link_per_size: Floats


@dataclass(frozen=True, eq=False)
class SumCase:
    """Minimise ``sum of cost[v, device of v]`` plus, for each signal and each other device e that holds a
    consumer of it, ``link_fixed[d, e] + size * link_per_size[d, e]``. Operators run one after another, so
    that with costs in seconds the sum is the latency of one request.

    ``cost``: float64 ``[n, m]`` in ``unit``, inf where the operator may not or cannot run. ``link_fixed``,
    ``link_per_size``: float64 ``[m, m]``, inf where nothing can be sent.
    ``monotone``: data may move only from a device to a later one (ordered tiers).
    """

    graph: Graph
    devices: tuple[str, ...]
    cost: Floats
    memory_bytes: Floats
    capacity_bytes: Floats
    link_fixed: Floats
    link_per_size: Floats
    unit: str = "s"
    monotone: bool = False
    limits: tuple[Limit, ...] = field(default=())

    def __post_init__(self) -> None:
        check(self.graph, self.devices, self.cost, self.memory_bytes, self.capacity_bytes)
        check_links(self.devices, self.link_fixed, self.link_per_size)


Case = LoadCase | SumCase


def check(
    graph: Graph, devices: tuple[str, ...], cost: Floats, memory_bytes: Floats, capacity_bytes: Floats
) -> None:
    """Check shapes and signs.

    Raises:
        InvalidCase: zero devices, a shape that does not fit, or a negative or undefined number.
    """
    import numpy as np

    n, m = len(graph.names), len(devices)
    if not m:
        raise InvalidCase("needs at least one device; there are none: join one, or name one to plan for")
    for what, values, shape in (
        ("costs", cost, (n, m)),
        ("memory", memory_bytes, (n,)),
        ("capacities", capacity_bytes, (m,)),
    ):
        if values.shape != shape:
            raise InvalidCase(f"needs {what} of shape {shape}; they have {values.shape}")
        if np.isnan(values).any() or (values < 0).any():
            raise InvalidCase(f"{what} must be at least 0; {_first_bad(graph, values)}")
    if not np.isfinite(memory_bytes).all():
        raise InvalidCase("an operator's memory must be finite")


def check_links(devices: tuple[str, ...], *matrices: Floats) -> None:
    """Check what is between devices.

    Raises:
        InvalidCase: a shape that does not fit, or a negative or undefined number.
    """
    import numpy as np

    m = len(devices)
    for matrix in matrices:
        if matrix.shape != (m, m) or np.isnan(matrix).any() or (matrix < 0).any():
            raise InvalidCase(f"links need {m} by {m} numbers of at least 0")


def _first_bad(graph: Graph, values: Floats) -> str:
    import numpy as np

    where = tuple(int(i) for i in np.argwhere(~(values >= 0))[0])
    name = graph.names[where[0]] if values.shape[0] == len(graph.names) else f"number {where[0]}"
    return f"{name} has {values[where]}"
