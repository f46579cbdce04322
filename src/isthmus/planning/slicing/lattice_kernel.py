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
    bits: NDArray[np.uint64], producer: Ints, size: Floats, first: Ints, readers: Ints, inward: bool
) -> tuple[Ints, Ints, Floats]:
    """Return, for each ideal, the signals that leave it: CSR pointers and indices, and the sum of their sizes.

    ``inward``: those that enter it instead: made outside and read inside, as gradients are.
    """
    count, signals = bits.shape[0], len(producer)
    starts = np.zeros(count + 1, np.int64)
    total = np.zeros(count)
    for turn in range(2):
        if turn == 1:
            found = np.empty(starts[count], np.int64)
        at = 0
        for row in range(count):
            for s in range(signals):
                if _has(bits, row, producer[s]) == inward:
                    continue
                crosses = False
                for k in range(first[s], first[s + 1]):
                    if _has(bits, row, readers[k]) == inward:
                        crosses = True
                        break
                if crosses:
                    if turn == 1:
                        found[at] = s
                        total[row] += size[s]
                    at += 1
            if turn == 0:
                starts[row + 1] = at
    return starts, found, total


@njit(cache=True, nogil=True)
def _readers(
    bits: NDArray[np.uint64], inner: int, outer: int, s: int, first: Ints, readers: Ints
) -> tuple[bool, bool]:
    """Return whether a slice ``outer`` less ``inner`` reads a signal, and whether anything beyond it does."""
    inside, beyond = False, False
    for k in range(first[s], first[s + 1]):
        if not _has(bits, outer, readers[k]):
            beyond = True
        elif not _has(bits, inner, readers[k]):
            inside = True
    return inside, beyond


@njit(cache=True, nogil=True)
def transfers(
    bits: NDArray[np.uint64],
    inner: int,
    outer: int,
    leaving: tuple[Ints, Ints, Floats],
    entering: tuple[Ints, Ints, Floats],
    signals: tuple[Ints, Floats, Ints, Ints],
) -> tuple[float, float]:
    """Return what a slice ``outer`` less ``inner`` receives and sends, in units of size; each signal once.

    Only signals across the rim of ``inner`` are looked at. Of those that leave it, what is read inside is received,
    and what leaves ``outer`` too is sent by somebody else: it is taken off what leaves ``outer``. Of those that enter
    it, what is made inside is sent, unless it leaves ``outer`` as well and is counted there; what is made beyond and
    not read inside is received by somebody else: it is taken off what enters ``outer``.
    """
    producer, size, first, readers = signals
    received, sent = entering[2][outer], leaving[2][outer]
    for at in range(leaving[0][inner], leaving[0][inner + 1]):
        s = leaving[1][at]
        inside, beyond = _readers(bits, inner, outer, s, first, readers)
        if inside:
            received += size[s]
        if beyond:
            sent -= size[s]
    for at in range(entering[0][inner], entering[0][inner + 1]):
        s = entering[1][at]
        inside, beyond = _readers(bits, inner, outer, s, first, readers)
        if _has(bits, outer, producer[s]):
            if not beyond:
                sent += size[s]
        elif not inside:
            received -= size[s]
    return max(received, 0.0), max(sent, 0.0)


@njit(cache=True, nogil=True)
def best_slices(  # noqa: PLR0912 - one nest of loops, compiled as a whole
    bits: NDArray[np.uint64],
    least: Floats,
    seconds: Floats,
    barred: Ints,
    memory: Floats,
    leaving: tuple[Ints, Ints, Floats],
    entering: tuple[Ints, Ints, Floats],
    signals: tuple[Ints, Floats, Ints, Ints],
    pace_out: Floats,
    pace_in: Floats,
    room: Floats,
    counts: Ints,
    overlap: bool,
    limit: float,
    value: Floats,
    before: Ints,
    kind: Ints,
    reach: Floats,
    start: int,
    stop: int,
) -> None:
    """Fill rows ``[start, stop)`` of the table of the dynamic programme; those before them are filled.

    ``bits``: uint64 ``[M, W]``, ideals sorted by ``least``, the prefix sum of each block's least seconds on any
    kind. ``seconds``: ``[M, T]`` prefix sums; ``barred``: ``[M, T]`` how many blocks a kind may not run.
    ``leaving``, ``entering``: of :func:`crossing`; ``signals``: producer, size, and readers by CSR pointers.
    ``counts``: devices of each kind; a state is a mixed-radix number of devices that may be used.

    Written: ``value[M, S]``: the least possible largest load of an ideal in slices on at most these devices, inf
    where it is above ``limit``; for each the ideal before the last slice and that slice's kind, -1 where there is none;
    and ``reach[M]``, the least value of each row.
    """
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
    whole = least[ideals - 1]
    slack = limit * 1e-12
    load = np.empty(kinds)
    for outer in range(start, stop):
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
            received, sent = transfers(bits, inner, outer, leaving, entering, signals)
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
