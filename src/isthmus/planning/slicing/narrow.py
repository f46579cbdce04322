"""What a plan that is no worse than a known one cannot do: blocks that it keeps together, devices that it keeps off.

Give each device d a price ``y_d >= 0`` of a second of its load, with the prices summing to 1, and a price
``z_d >= 0`` of a unit of its memory. The largest load is then at least the sum over blocks of their least
``y_d seconds + z_d memory``, less ``z_d capacity``, plus ``y_d`` times what each transfer takes (Lagrangian
duality; the best prices are dual values of a linear programme of divided work). Where one transfer or one
placement takes that sum past a known plan's value, no plan as good has it (reduced-cost fixing: Wolsey, "Integer
Programming", section 7.7). Blocks that no such transfer may part become one.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from isthmus.planning.slicing.blocks import Blocks
from isthmus.planning.slicing.kinds import Kinds, kinds

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from isthmus.planning.slicing.case import Floats, LoadCase

    Ints = NDArray[np.int64]
    Flags = NDArray[np.bool_]

SLACK = 1e-9
"""Relative; a plan that is worse by no more is kept, so that sums of floats in another order lose nothing."""


@dataclass(frozen=True, eq=False)
class Narrowed:
    """The same case with fewer choices; every plan of at most the known value is still in it.

    ``blocks``: merged; ``seconds`` is inf where a block cannot be. ``label``: int64 ``[b]``, the new block of each
    one before. ``parted``: by producer and reader, between which kinds of devices the signal may still go: bool
    ``[t, u]``, of different devices. ``bound``: no plan below the known value is below it.
    """

    blocks: Blocks
    label: Ints
    parted: dict[tuple[int, int], Flags]
    bound: float


class Prices(NamedTuple):
    """Of a second, and of a unit of memory, of one device of each kind: float64 ``[t]``."""

    second: Floats
    memory: Floats


class _Known(NamedTuple):
    """``over``: float64 ``[b, t]``; ``price``: float64 ``[t]``; ``most``: what a plan may cost."""

    over: Floats
    price: Floats
    bound: float
    most: float


def narrow(case: LoadCase, blocks: Blocks, value: float) -> Narrowed:
    """Return what plans of at most ``value`` may still do. What a transfer costs must not depend on the other side."""
    import numpy as np

    found = kinds(case)
    label = np.arange(len(blocks.members), dtype=np.int64)
    most = value * (1 + SLACK)
    while True:
        bound, over, price = _prices(case, blocks, found)
        parted = _parted(case, blocks, found, _Known(over, price, bound, most))
        blocks = _off(blocks, found, over > most - bound)
        tied = [pair for pair, possible in parted.items() if not possible.any()]
        if not tied:
            some = {pair: possible for pair, possible in parted.items() if not possible.all()}
            return Narrowed(blocks, label, some, bound)
        step = _components(len(blocks.members), tied)
        blocks, label = _merge(blocks, step), step[label]


def _prices(case: LoadCase, blocks: Blocks, found: Kinds) -> tuple[float, Floats, Floats]:
    """Return a bound, by how much each block passes its least on each kind, ``[b, t]``, and the prices of seconds."""
    import numpy as np

    first = [members[0] for members in found.members]
    counts = np.array(found.counts, dtype=np.float64)
    seconds, room = blocks.seconds[:, first], case.capacity_bytes[first]
    price = _dual(seconds, blocks.memory_bytes, counts, room)
    needed = np.outer(blocks.memory_bytes, price.memory)
    spent = np.where(np.isfinite(seconds), seconds, 0.0) * price.second + needed
    spent[~np.isfinite(seconds)] = np.inf
    least = spent.min(axis=1)
    limited = price.memory > 0
    bound = float(least.sum() - (price.memory * counts)[limited] @ (room[limited] * (1 + SLACK)))
    over = spent - np.where(np.isfinite(least), least, 0.0)[:, None]
    return max(bound, 0.0) * (1 - SLACK), over, price.second


def _dual(seconds: Floats, memory: Floats, counts: Floats, room: Floats) -> Prices:
    """Return the dual values of dividing work at will; any that are not negative prove a bound, these the best."""
    import numpy as np
    from scipy.optimize import linprog
    from scipy.sparse import coo_array, vstack

    v, t = np.nonzero(np.isfinite(seconds))
    n, kind, cells = len(seconds), len(counts), len(v)
    limited = np.flatnonzero(np.isfinite(room))
    top = max(float(seconds[v, t].max(initial=0.0)), 1e-300)
    unit = max(float(memory.max(initial=0.0)), 1e-300)
    load = coo_array((seconds[v, t] / top, (t, np.arange(cells))), shape=(kind, cells + 1)).tolil()
    load[:, cells] = -counts[:, None]
    held = coo_array((memory[v] / unit, (t, np.arange(cells))), shape=(kind, cells + 1)).tocsr()[limited]
    once = coo_array((np.ones(cells), (v, np.arange(cells))), shape=(n, cells + 1))
    answer = linprog(
        np.append(np.zeros(cells), 1.0),
        A_ub=vstack([load.tocsr(), held]).tocsr(),
        b_ub=np.concatenate([np.zeros(kind), (counts * room)[limited] / unit]),
        A_eq=once.tocsr(),
        b_eq=np.ones(n),
        method="highs",
    )
    second, per_byte = np.full(kind, 1.0), np.zeros(kind)
    if answer.status == 0:
        second = np.maximum(-answer.ineqlin.marginals[:kind], 0.0)
        per_byte[limited] = np.maximum(-answer.ineqlin.marginals[kind:], 0.0) * top / unit
    total = float(second @ counts)
    return Prices(second / total, per_byte) if total > 0 else Prices(1.0 / (kind * counts), np.zeros(kind))


def _off(blocks: Blocks, found: Kinds, barred: Flags) -> Blocks:
    """Return the blocks without the placements ``barred``, bool ``[b, t]``."""
    import dataclasses

    import numpy as np

    seconds = blocks.seconds.copy()
    for t, members in enumerate(found.members):
        seconds[np.ix_(barred[:, t], members)] = np.inf
    return dataclasses.replace(blocks, seconds=seconds)


def _parted(case: LoadCase, blocks: Blocks, found: Kinds, known: _Known) -> dict[tuple[int, int], Flags]:
    """Return between which kinds of different devices each signal may go, for each producer and reader."""
    import numpy as np

    out, into = found.pace_out(), found.pace_in()
    if out is None or into is None:
        return {}
    seconds = blocks.seconds[:, [members[0] for members in found.members]]
    # A device that computes and sends at once is no busier for it.
    busy, price = (
        (np.zeros_like(seconds), np.zeros_like(known.price)) if case.overlap else (seconds, known.price)
    )
    others = ~np.diag(np.array(found.counts) < 2)
    possible: dict[tuple[int, int], Flags] = {}
    for s, readers in enumerate(blocks.consumers):
        p, send, receive = int(blocks.producer[s]), blocks.size[s] * out, blocks.size[s] * into
        leaves = busy[p] + send <= known.most
        paid = known.bound + (known.over[p] + price * send)[:, None]
        for r in readers:
            arrives = busy[r] + receive <= known.most
            cheap = paid + (known.over[r] + price * receive)[None, :] <= known.most
            possible[p, r] = possible.get((p, r), others) & cheap & leaves[:, None] & arrives[None, :]
    return possible


def _components(count: int, tied: list[tuple[int, int]]) -> Ints:
    import numpy as np
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows, columns = np.array(tied, dtype=np.int64).T
    matrix = coo_array((np.ones(len(tied)), (rows, columns)), shape=(count, count))
    _, label = connected_components(matrix, directed=False)
    return np.asarray(label, dtype=np.int64)


def _merge(blocks: Blocks, label: Ints) -> Blocks:
    import numpy as np

    count = int(label.max()) + 1
    seconds, memory = np.zeros((count, blocks.seconds.shape[1])), np.zeros(count)
    np.add.at(seconds, label, blocks.seconds)
    np.add.at(memory, label, blocks.memory_bytes)
    members: list[list[int]] = [[] for _ in range(count)]
    for b, entry in enumerate(blocks.members):
        members[label[b]].extend(entry)
    merged: dict[tuple[int, tuple[int, ...]], float] = defaultdict(float)
    for s, consumers in enumerate(blocks.consumers):
        source = int(label[blocks.producer[s]])
        readers = tuple(sorted({int(label[c]) for c in consumers} - {source}))
        if readers:
            merged[source, readers] += float(blocks.size[s])
    edges = {(int(label[a]), int(label[b])) for a, b in blocks.edges}
    return Blocks(
        members=tuple(tuple(sorted(entry)) for entry in members),
        seconds=seconds,
        memory_bytes=memory,
        producer=np.array([source for source, _ in merged], dtype=np.int64),
        size=np.array(list(merged.values()), dtype=np.float64),
        consumers=tuple(readers for _, readers in merged),
        edges=tuple(sorted((a, b) for a, b in edges if a != b)),
    )
