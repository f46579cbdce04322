"""The inner loops of ``lattice``, compiled. Imported when a case is solved: numba takes a while to load."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@njit(cache=True, nogil=True)
def _has(bits: NDArray[np.uint64], row: int, block: int) -> bool:
    return bool((bits[row, block >> 6] >> np.uint64(block & 63)) & np.uint64(1))


@njit(cache=True, nogil=True)
def crossing(
    bits: NDArray[np.uint64], producer: Ints, size: Floats, first: Ints, readers: Ints
) -> tuple[Ints, Ints, Floats]:
    """Return, for each ideal, the signals that leave it: CSR pointers and indices, and the sum of their sizes."""
    count, signals = bits.shape[0], len(producer)
    starts = np.zeros(count + 1, np.int64)
    total = np.zeros(count)
    for turn in range(2):
        if turn == 1:
            found = np.empty(starts[count], np.int64)
        at = 0
        for row in range(count):
            for s in range(signals):
                if not _has(bits, row, producer[s]):
                    continue
                leaves = False
                for k in range(first[s], first[s + 1]):
                    if not _has(bits, row, readers[k]):
                        leaves = True
                        break
                if leaves:
                    if turn == 1:
                        found[at] = s
                        total[row] += size[s]
                    at += 1
            if turn == 0:
                starts[row + 1] = at
    return starts, found, total


@njit(cache=True, nogil=True)
def transfers(
    bits: NDArray[np.uint64],
    inner: int,
    outer: int,
    starts: Ints,
    leaving: Ints,
    total: Floats,
    size: Floats,
    first: Ints,
    readers: Ints,
) -> tuple[float, float]:
    """Return what a slice ``outer`` less ``inner`` receives and sends, in units of size.

    Only signals that leave ``inner`` matter: those read inside are received; those that leave ``outer`` too
    are sent by somebody else, and are taken off what leaves ``outer``.
    """
    received, sent = 0.0, total[outer]
    for at in range(starts[inner], starts[inner + 1]):
        s = leaving[at]
        inside, beyond = False, False
        for k in range(first[s], first[s + 1]):
            if _has(bits, outer, readers[k]):
                if not _has(bits, inner, readers[k]):
                    inside = True
            else:
                beyond = True
        if inside:
            received += size[s]
        if beyond:
            sent -= size[s]
    return received, max(sent, 0.0)


@njit(cache=True, nogil=True)
def best_slices(  # noqa: PLR0912 - one nest of loops, compiled as a whole
    bits: NDArray[np.uint64],
    least: Floats,
    seconds: Floats,
    barred: Ints,
    memory: Floats,
    links: tuple[Ints, Ints, Floats, Floats, Ints, Ints],
    pace_out: Floats,
    pace_in: Floats,
    room: Floats,
    counts: Ints,
    overlap: bool,
    limit: float,
) -> tuple[Floats, Ints, Ints]:
    """Fill the table of the dynamic programme.

    ``bits``: uint64 ``[M, W]``, ideals sorted by ``least``, the prefix sum of each block's least seconds on any
    kind. ``seconds``: ``[M, T]`` prefix sums; ``barred``: ``[M, T]`` how many blocks a kind may not run.
    ``counts``: devices of each kind; a state is a mixed-radix number of devices that may be used.

    Returns ``value[M, S]``: the least possible largest load of an ideal in slices on at most these devices, inf
    where it is above ``limit``; and for each the ideal before the last slice and that slice's kind.
    """
    starts, leaving, total, size, first, readers = links
    ideals, kinds = bits.shape[0], len(counts)
    step = np.ones(kinds, np.int64)
    for t in range(1, kinds):
        step[t] = step[t - 1] * (counts[t - 1] + 1)
    states = step[kinds - 1] * (counts[kinds - 1] + 1)
    devices = counts.sum()
    used = np.zeros(states, np.int64)
    for state in range(states):
        for t in range(kinds):
            used[state] += (state // step[t]) % (counts[t] + 1)
    value = np.full((ideals, states), np.inf)
    value[0, :] = 0.0
    reach = np.full(ideals, np.inf)
    reach[0] = 0.0
    before = np.full((ideals, states), -1, np.int64)
    kind = np.full((ideals, states), -1, np.int64)
    whole = least[ideals - 1]
    slack = limit * 1e-12
    load = np.empty(kinds)
    for outer in range(1, ideals):
        for inner in range(outer - 1, -1, -1):
            if least[outer] - least[inner] > limit + slack:
                break
            if reach[inner] > limit + slack:
                continue
            apart = False
            for w in range(bits.shape[1]):
                if bits[inner, w] & ~bits[outer, w]:
                    apart = True
                    break
            if apart:
                continue
            fits = False
            for t in range(kinds):
                computing = seconds[outer, t] - seconds[inner, t]
                load[t] = np.inf
                allowed = barred[outer, t] == barred[inner, t] and memory[outer] - memory[inner] <= room[t]
                if allowed and computing <= limit + slack:
                    load[t] = computing
                    fits = True
            if not fits:
                continue
            received, sent = transfers(bits, inner, outer, starts, leaving, total, size, first, readers)
            for t in range(kinds):
                if load[t] == np.inf:
                    continue
                going, coming = sent * pace_out[t], received * pace_in[t]
                load[t] = max(load[t], going, coming) if overlap else load[t] + going + coming
                if load[t] > limit + slack:
                    continue
                for state in range(step[t], states):
                    if (state // step[t]) % (counts[t] + 1) == 0:
                        continue
                    # What is left has to fit the devices that are left, even when perfectly divided.
                    if whole - least[outer] > (devices - used[state]) * (limit + slack):
                        continue
                    found = max(value[inner, state - step[t]], load[t])
                    if found < value[outer, state]:
                        value[outer, state] = found
                        before[outer, state] = inner
                        kind[outer, state] = t
        reach[outer] = value[outer, :].min()
    return value, before, kind
