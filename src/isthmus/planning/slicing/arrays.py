"""A graph as arrays, by blocks of co-located operators: what the models of sums are built from."""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from isthmus.planning.slicing.solution import Stage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from isthmus.planning.slicing.case import Floats, Graph, Limit, SumCase
    from isthmus.planning.slicing.cut_skeleton import Skeleton

    Ints = NDArray[np.int64]

ROUNDING = 1e-9
"""Relative; by so much a sum may pass its limit, as in the verifier."""


@dataclass(frozen=True, eq=False)
class GraphArrays:
    """``block_of``: int64 ``[n]``, of ``blocks`` blocks; ``grouped``: some block has several operators.

    ``producer``: int64 ``[s]`` and ``size``: float64 ``[s]`` of the signals that leave a block.
    ``signal``, ``consumer``: int64 ``[k]``: each signal with each other block that reads it, once, by signal.
    ``readers``: int64 ``[s]``. ``edges``: int64 ``[e, 2]``, precedence between different blocks, distinct.
    ``skeletons``: what networks of the graph have in common, by tiers and whether they are ordered.
    """

    block_of: Ints
    blocks: int
    grouped: bool
    producer: Ints
    size: Floats
    signal: Ints
    consumer: Ints
    readers: Ints
    edges: Ints
    skeletons: dict[tuple[int, bool], Skeleton] = field(default_factory=dict)

    @functools.cached_property
    def sender(self) -> Ints:
        """The producer of each entry of ``signal``."""
        return self.producer[self.signal]

    @functools.cached_property
    def read_once(self) -> tuple[Ints, Ints]:
        """Signals with one reader, and it."""
        one = self.readers[self.signal] == 1
        return self.signal[one], self.consumer[one]

    @functools.cached_property
    def read_often(self) -> tuple[Ints, Ints, Ints]:
        """The readers of signals that have several, those signals, and which of them each reader reads."""
        import numpy as np

        several = np.flatnonzero(self.readers > 1)
        row = self.readers[self.signal] > 1
        return self.consumer[row], several, np.searchsorted(several, self.signal[row])

    def by_operator(self, device_of: Ints) -> Ints:
        """Return each operator's device, from each block's."""
        return device_of[self.block_of] if self.grouped else device_of

    def sum_blocks(self, values: Floats) -> Floats:
        """Add up what operators have, ``[n]`` or ``[n, m]``, by block."""
        import numpy as np

        if not self.grouped:
            return values
        found = np.zeros((self.blocks, *values.shape[1:]))
        np.add.at(found, self.block_of, values)
        return found


def graph_arrays(graph: Graph) -> GraphArrays:
    """Return the arrays of a graph; ``Graph.arrays`` keeps them."""
    import numpy as np

    n, signals = len(graph.names), graph.signals
    block_of = np.arange(n)
    for block, members in enumerate(graph.colocated) if graph.groups else ():
        block_of[list(members)] = block
    blocks = int(block_of.max()) + 1
    count = np.fromiter((len(s.consumers) for s in signals), dtype=np.int64, count=len(signals))
    producer = block_of[np.fromiter((s.producer for s in signals), dtype=np.int64, count=len(signals))]
    consumers = itertools.chain.from_iterable([s.consumers for s in signals])
    consumer = block_of[np.fromiter(consumers, dtype=np.int64, count=int(count.sum()))]
    sender = np.repeat(producer, count)
    pair = (np.repeat(np.arange(len(signals)) * blocks, count) + consumer)[consumer != sender]
    pair = distinct(pair)
    readers = np.bincount(pair // blocks, minlength=len(signals))
    leaves = readers > 0
    order = block_of[np.array(graph.order, dtype=np.int64).reshape(-1, 2)]
    edge = np.concatenate((producer[pair // blocks] * blocks + pair % blocks, order @ [blocks, 1]))
    edge = distinct(edge[edge // blocks != edge % blocks])
    return GraphArrays(
        block_of=block_of,
        blocks=blocks,
        grouped=blocks < n,
        producer=producer[leaves],
        size=np.fromiter((s.size for s in signals), dtype=np.float64, count=len(signals))[leaves],
        signal=(np.cumsum(leaves) - 1)[pair // blocks],
        consumer=pair % blocks,
        readers=readers[leaves],
        edges=np.stack((edge // blocks, edge % blocks), axis=1),
    )


def distinct(values: Ints) -> Ints:
    """Return the values sorted, each once."""
    import numpy as np

    values = np.sort(values)
    return values[np.concatenate(([True], values[1:] != values[:-1]))] if len(values) else values


def transfer_costs(fixed: Floats, per_size: Floats, size: Floats) -> Floats:
    """Return what each signal costs from each device to each other, float64 ``[s, m, m]``; 0 on one device."""
    import numpy as np

    # What has no size passes where a size would cost without end, as in the verifier.
    moved = np.where(size[:, None, None] > 0, size[:, None, None], 1.0) * per_size
    found = fixed + np.where(size[:, None, None] > 0, moved, 0.0)
    found[:, np.arange(len(fixed)), np.arange(len(fixed))] = 0.0
    return found


def score(graph: Graph, device_of: Ints, cost: Floats, fixed: Floats, per_size: Floats) -> float:
    """Return the sum that an assignment of blocks, int64 ``[blocks]``, costs."""
    import numpy as np

    arrays, (n, m) = graph.arrays, cost.shape
    total = float(cost.take(arrays.by_operator(device_of) + np.arange(0, n * m, m)).sum())
    target = device_of.take(arrays.consumer)
    away = np.flatnonzero(target != device_of.take(arrays.sender))
    sent = distinct(arrays.signal.take(away) * m + target.take(away))
    signal, target = sent // m, sent % m
    source, size = device_of[arrays.producer[signal]], arrays.size[signal]
    total += float(fixed[source, target].sum())
    sized = size > 0
    return total + float((size[sized] * per_size[source[sized], target[sized]]).sum())


def broken(case: SumCase, device_of: Ints) -> list[str]:
    """Return names of the limits that an assignment of blocks passes: devices short of memory, and sums."""
    import numpy as np

    found = []
    if case.capacity_bytes.min() < np.inf:
        of = case.graph.arrays.by_operator(device_of)
        used = np.bincount(of, case.memory_bytes, minlength=len(case.devices))
        short = np.flatnonzero(used > case.capacity_bytes * (1 + ROUNDING))
        found = [f"the memory of {case.devices[d]}" for d in short]
    return found + [limit.name for limit in case.limits if limit_excess(case.graph, limit, device_of) > 0]


def limit_excess(graph: Graph, limit: Limit, device_of: Ints) -> float:
    """Return by how much a limit is passed beyond rounding; at most 0 where it is kept."""
    value = score(graph, device_of, limit.cost, limit.link_fixed, limit.link_per_size)
    return value - limit.most * (1 + ROUNDING)


def stages_of(graph: Graph, device_of: Ints) -> tuple[Stage, ...]:
    """Return one stage for each device that has operators, for an assignment of blocks, int64 ``[blocks]``."""
    import numpy as np

    of = graph.arrays.by_operator(device_of)
    parts = ((d, np.flatnonzero(of == d).tolist()) for d in range(int(of.max()) + 1))
    return tuple(Stage(tuple(part), (d,)) for d, part in parts if part)
