"""Contract what has to stay together, so that a method sees fewer and independent pieces.

Co-located operators become one block. For a contiguous plan also what lies on a path between two
members: a slice that left and came back would make a cycle of slices. Blocks that cost nothing
and touch one other block join it; neither step changes the best value.
"""

from __future__ import annotations

import graphlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from isthmus.planning.slicing.solution import Stage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from isthmus.planning.slicing.case import Floats, Graph, LoadCase


@dataclass(frozen=True, eq=False)
class Blocks:
    """Blocks in a topological order; shapes for b blocks, m devices and s signals between blocks.

    ``members[k]``: operators of block k, ascending. ``seconds``: float64 ``[b, m]``, inf where a member may not run.
    ``memory_bytes``: float64 ``[b]``. ``producer``: int64 ``[s]``; ``size``: float64 ``[s]``; ``consumers[i]``: blocks
    other than the producer that read signal i, ascending. ``edges``: precedence of a contiguous plan.
    """

    members: tuple[tuple[int, ...], ...]
    seconds: Floats
    memory_bytes: Floats
    producer: NDArray[np.int64]
    size: Floats
    consumers: tuple[tuple[int, ...], ...]
    edges: tuple[tuple[int, int], ...]

    def stages(self, device_of: Iterable[int]) -> tuple[Stage, ...]:
        """Return one stage for each device that has blocks, in the order of its first block."""
        found: dict[int, list[int]] = {}
        for block, device in enumerate(device_of):
            found.setdefault(int(device), []).extend(self.members[block])
        return tuple(Stage(tuple(sorted(found[device])), (device,)) for device in found)


def contract(case: LoadCase, *, contiguous: bool) -> Blocks:
    """Return the blocks of a case."""
    graph = case.graph
    label = _together(graph, contiguous)
    label = _join_free(case, label)
    order = _order(graph, label, contiguous)
    rank = {block: k for k, block in enumerate(order)}
    return merge(case, [rank[block] for block in label], len(order))


def precedence(graph: Graph) -> list[tuple[int, int]]:
    """Return the edges that a contiguous plan obeys: those between forward operators.

    A backward operator goes where the forward ones of its group are, and its edges bind nothing more. One whose group
    has none stands for itself: an edge between it and another of the backward pass binds in reverse. So do Tarnawski
    et al. (``throughput-dp``: "artificial forward nodes"), whose layers' gradients do not all run in reverse.
    """
    if not graph.backward:
        return list(graph.edges)
    back, groups = graph.backward, graph.groups or tuple(range(len(graph.names)))
    led = {group for v, group in enumerate(groups) if not back[v]}
    found = []
    for u, v in graph.edges:
        if not (back[u] or back[v]):
            found.append((u, v))
        elif back[u] and back[v] and not (groups[u] in led and groups[v] in led):
            found.append((v, u))
    return found


def _together(graph: Graph, contiguous: bool) -> list[int]:
    """Return each operator's block: of a group, or of a strongly connected component of groups."""
    import numpy as np
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(graph.names)
    ties = [(a, b) for group in graph.colocated for a, b in zip(group, (*group[1:], group[0]), strict=True)]
    edges = [*ties, *(precedence(graph) if contiguous else [])]
    rows, columns = np.array(edges, dtype=np.int64).T
    matrix = coo_array((np.ones(len(edges)), (rows, columns)), shape=(n, n))
    _, labels = connected_components(matrix, directed=True, connection="strong")
    return [int(entry) for entry in labels]


def _join_free(case: LoadCase, label: list[int]) -> list[int]:
    """Give a block of no cost and one neighbour to that neighbour."""
    import numpy as np

    graph = case.graph
    neighbours: dict[int, set[int]] = defaultdict(set)
    for u, v in graph.edges:
        if label[u] != label[v]:
            neighbours[label[u]].add(label[v])
            neighbours[label[v]].add(label[u])
    costs: dict[int, float] = defaultdict(float)
    worst = np.max(case.seconds, axis=1) + case.memory_bytes
    for v, block in enumerate(label):
        costs[block] += float(worst[v])
    joined: dict[int, int] = {}
    waiting = [block for block, found in neighbours.items() if costs[block] == 0 and len(found) == 1]
    while waiting:
        block = waiting.pop()
        if block in joined or len(neighbours[block]) != 1:
            continue
        (target,) = neighbours.pop(block)
        joined[block] = target
        neighbours[target].discard(block)
        if costs[target] == 0 and len(neighbours[target]) == 1:
            waiting.append(target)
    return [_end(joined, block) for block in label]


def _end(joined: Mapping[int, int], block: int) -> int:
    while block in joined:
        block = joined[block]
    return block


def _order(graph: Graph, label: list[int], contiguous: bool) -> list[int]:
    """Return the blocks so that producers come first, where contiguity orders them; else by first member."""
    before: dict[int, list[int]] = {block: [] for block in label}
    if contiguous:
        for u, v in precedence(graph):
            if label[u] != label[v]:
                before[label[v]].append(label[u])
    return list(graphlib.TopologicalSorter(before).static_order()) if contiguous else list(before)


def merge(case: LoadCase, block_of: Sequence[int], count: int) -> Blocks:
    """Return blocks of operators; ``block_of``: of each operator its block, of ``count``."""
    import numpy as np

    where = np.array(block_of)
    seconds = np.zeros((count, len(case.devices)))
    np.add.at(seconds, where, case.seconds)
    memory = np.zeros(count)
    np.add.at(memory, where, case.memory_bytes)
    members: list[list[int]] = [[] for _ in range(count)]
    for v, block in enumerate(block_of):
        members[block].append(v)
    merged: dict[tuple[int, tuple[int, ...]], float] = defaultdict(float)
    for signal in case.graph.signals:
        source = block_of[signal.producer]
        readers = tuple(sorted({block_of[c] for c in signal.consumers} - {source}))
        if readers and signal.size > 0:
            merged[source, readers] += signal.size
    edges = {(block_of[u], block_of[v]) for u, v in precedence(case.graph)}
    return Blocks(
        members=tuple(map(tuple, members)),
        seconds=seconds,
        memory_bytes=memory,
        producer=np.array([source for source, _ in merged], dtype=np.int64),
        size=np.array(list(merged.values()), dtype=np.float64),
        consumers=tuple(readers for _, readers in merged),
        edges=tuple(sorted((a, b) for a, b in edges if a != b)),
    )
