"""The inner loops of ``ranges``, compiled: devices in an order take as many blocks as a load allows."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Rows = tuple[Floats, Floats, Floats, Floats, Floats]
"""By place in the order: seconds ``[b, m]`` and memory ``[b]``; by device: room ``[m]``, and the pace of sending and of
receiving ``[m, m]``."""
Signals = tuple[Ints, Ints, Ints, Ints, Ints, Floats, Ints, Ints, Ints]
"""CSR of what each place makes, and of what it reads with the place of the reader before; then of each signal its size,
its producer, and its first and last reader."""

MOST_BACK = 8


@njit(cache=True, nogil=True)
def _first(
    d: int,
    e: int,
    start: int,
    limit: float,
    back: int,
    rows: Rows,
    signals: Signals,
    placed: Ints,
    overlap: bool,
) -> int:
    """Return where the range of device d from ``start`` ends, when device e comes next: as far as its load allows, or
    the ``back``-th of such places before that; ``start`` when it can take nothing."""
    seconds, memory, room, send, receive = rows
    made_at, made, read_at, read, earlier, size, producer, low, high = signals
    count = seconds.shape[0]
    away, toward = (send[d, e], receive[e, d]) if e >= 0 else (0.0, 0.0)
    computing, held, goes, comes = 0.0, 0.0, 0.0, 0.0
    ends, found = np.zeros(MOST_BACK, np.int64), 0
    for v in range(start, count):
        computing += seconds[v, d]
        held += memory[v]
        if computing == np.inf or computing > limit or held > room[d]:
            break
        for k in range(read_at[v], read_at[v + 1]):
            s = read[k]
            p = producer[s]
            if (p < start or p > v) and earlier[k] < start:
                comes += size[s] * (receive[placed[p], d] if p < start else toward)
            if start <= p < v and low[s] >= start and high[s] == v:
                goes -= size[s]
        for k in range(made_at[v], made_at[v + 1]):
            s = made[k]
            if low[s] < v and high[s] >= start:  # read here already: it comes from nowhere else
                comes -= size[s] * toward
            if low[s] < start or high[s] > v:
                goes += size[s]
        sends = max(goes, 0.0) * away
        load = max(computing, sends, comes) if overlap else computing + sends + comes
        if load <= limit:
            if v + 1 == count:
                return int(count)
            ends[found % MOST_BACK] = v + 1
            found += 1
    if not found:
        return start
    return int(ends[(found - 1 - min(back, found - 1, MOST_BACK - 1)) % MOST_BACK])


@njit(cache=True, nogil=True)
def fill(
    order: Ints,
    active: Bools,
    back: Ints,
    limit: float,
    rows: Rows,
    signals: Signals,
    overlap: bool,
    placed: Ints,
) -> int:
    """Give ranges to devices in ``order``, those that are ``active``; return how many places they take.

    ``placed``: int64 ``[b]``, of each place its device: written.
    """
    start, count = 0, len(placed)
    for k in range(len(order)):
        if not active[order[k]]:
            continue
        d, e = order[k], -1
        for later in range(k + 1, len(order)):
            if active[order[later]]:
                e = order[later]
                break
        end = _first(d, e, start, limit, back[d], rows, signals, placed, overlap)
        placed[start:end] = d
        start = end
        if start == count:
            break
    return start


@njit(cache=True, nogil=True)
def _change(order: Ints, active: Bools, back: Ints) -> None:
    """Change the order, who takes part, or how far someone goes."""
    m = len(order)
    what = np.random.randint(6)
    i, j = np.random.randint(m), np.random.randint(m)
    if what == 0:
        order[i], order[j] = order[j], order[i]
    elif what == 1:
        moved = order[i]
        if i < j:
            order[i:j] = order[i + 1 : j + 1].copy()
        else:
            order[j + 1 : i + 1] = order[j:i].copy()
        order[j] = moved
    elif what == 2:
        active[i] = not active[i]
    elif what == 3:
        a, b = min(i, j), max(i, j) + 1
        order[a:b] = order[a:b][::-1].copy()
    elif what == 4:
        back[i] = np.random.randint(MOST_BACK)
    else:
        back[i] = 0
        active[i] = True


@njit(cache=True, nogil=True)
def anneal(
    order: Ints,
    active: Bools,
    back: Ints,
    limit: float,
    done: Floats,
    rows: Rows,
    signals: Signals,
    overlap: bool,
    turns: int,
    seed: int,
    placed: Ints,
) -> bool:
    """Change ``order``, ``active`` and ``back`` until the devices take everything; return whether they do.

    ``done``: float64 ``[b + 1]``, the part of the work before each place. What is given is changed in place.
    """
    np.random.seed(seed)
    count = len(placed)
    taken = fill(order, active, back, limit, rows, signals, overlap, placed)
    for turn in range(turns):
        if taken == count:
            return True
        new_order, new_active, new_back = order.copy(), active.copy(), back.copy()
        for _ in range(1 + np.random.randint(3)):
            _change(new_order, new_active, new_back)
        new_taken = fill(new_order, new_active, new_back, limit, rows, signals, overlap, placed)
        gained = done[new_taken] - done[taken]
        heat = 0.02 * (1.0 - turn / turns) + 1e-6
        if gained >= 0.0 or np.random.random() < np.exp(gained / heat):
            order[:], active[:], back[:], taken = new_order, new_active, new_back, new_taken
    return bool(fill(order, active, back, limit, rows, signals, overlap, placed) == count)
