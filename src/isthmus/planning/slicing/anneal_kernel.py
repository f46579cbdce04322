"""Simulated annealing on an assignment of blocks to devices, compiled; each move costs what it touches."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@njit(cache=True, nogil=True)
def _signal(
    s: int,
    sign: float,
    device: Ints,
    producer: Ints,
    size: Floats,
    held: Ints,
    out: Floats,
    into: Floats,
    parts: Floats,
) -> None:
    """Add (or take away) what signal s makes its devices busy with; ``parts``: ``[m, 3]``."""
    source = device[producer[s]]
    leaves = False
    for d in range(held.shape[1]):
        if held[s, d] > 0 and d != source:
            leaves = True
            parts[d, 2] += sign * size[s] * into[d]
    if leaves:
        parts[source, 1] += sign * size[s] * out[source]


@njit(cache=True, nogil=True)
def _load(parts: Floats, d: int, overlap: bool) -> float:
    if overlap:
        return float(max(parts[d, 0], parts[d, 1], parts[d, 2]))
    return float(parts[d, 0] + parts[d, 1] + parts[d, 2])


@njit(cache=True, nogil=True)
def _score(parts: Floats, overlap: bool, scale: float, power: int) -> float:
    """Return a norm between sum and maximum, so that a move that helps a device which is not the worst counts."""
    total = 0.0
    for d in range(parts.shape[0]):
        total += (_load(parts, d, overlap) / scale) ** power
    return total


@njit(cache=True, nogil=True)
def _move(
    b: int,
    target: int,
    device: Ints,
    seconds: Floats,
    memory: Floats,
    touching: Ints,
    first_touching: Ints,
    producer: Ints,
    size: Floats,
    held: Ints,
    out: Floats,
    into: Floats,
    parts: Floats,
    used: Floats,
) -> None:
    source = device[b]
    for at in range(first_touching[b], first_touching[b + 1]):
        _signal(touching[at], -1.0, device, producer, size, held, out, into, parts)
    for at in range(first_touching[b], first_touching[b + 1]):
        if producer[touching[at]] != b:
            held[touching[at], source] -= 1
            held[touching[at], target] += 1
    device[b] = target
    for at in range(first_touching[b], first_touching[b + 1]):
        _signal(touching[at], 1.0, device, producer, size, held, out, into, parts)
    parts[source, 0] -= seconds[b, source]
    parts[target, 0] += seconds[b, target]
    used[source] -= memory[b]
    used[target] += memory[b]


@njit(cache=True, nogil=True)
def anneal(  # noqa: PLR0912 - one nest of loops, compiled as a whole
    device: Ints,
    seconds: Floats,
    memory: Floats,
    room: Floats,
    producer: Ints,
    size: Floats,
    first: Ints,
    readers: Ints,
    first_touching: Ints,
    touching: Ints,
    out: Floats,
    into: Floats,
    overlap: bool,
    turns: int,
    hot: float,
    cold: float,
    power: int,
    together: float,
    seed: int,
) -> tuple[float, Ints]:
    """Return the least largest load found in ``turns`` moves, and its assignment ``[b]``.

    A move gives a block to a random device, most often one that holds a neighbour; or, with the chance ``together``,
    everything that makes or reads one signal. Temperatures fall from ``hot``
    to ``cold``, relative to the score.
    """
    np.random.seed(seed)
    blocks, devices, signals = len(device), seconds.shape[1], len(producer)
    held = np.zeros((signals, devices), np.int64)
    for s in range(signals):
        for k in range(first[s], first[s + 1]):
            held[s, device[readers[k]]] += 1
    parts, used = np.zeros((devices, 3)), np.zeros(devices)
    for b in range(blocks):
        parts[device[b], 0] += seconds[b, device[b]]
        used[device[b]] += memory[b]
    for s in range(signals):
        _signal(s, 1.0, device, producer, size, held, out, into, parts)
    worst = 0.0
    for d in range(devices):
        worst = max(worst, _load(parts, d, overlap))
    scale = max(worst, 1e-300)
    score = _score(parts, overlap, scale, power)
    best, best_device = worst, device.copy()
    moved, came_from = np.empty(blocks, np.int64), np.empty(blocks, np.int64)
    for turn in range(turns):
        heat = hot * (cold / hot) ** (turn / turns)
        b = np.random.randint(blocks)
        target = np.random.randint(devices)
        count = 1
        moved[0] = b
        if np.random.random() < 0.7 and first_touching[b + 1] > first_touching[b]:
            s = touching[np.random.randint(first_touching[b], first_touching[b + 1])]
            other = producer[s]
            if other == b or np.random.random() < 0.5:
                other = readers[np.random.randint(first[s], first[s + 1])]
            target = device[other]
            if np.random.random() < together:
                # All that make or read a signal go to one device: no single move among them would pay.
                count = 0
                if np.random.random() < 0.2:
                    target = np.random.randint(devices)
                if device[producer[s]] != target:
                    moved[0] = producer[s]
                    count = 1
                for k in range(first[s], first[s + 1]):
                    if device[readers[k]] != target:
                        moved[count] = readers[k]
                        count += 1
        fits = count > 0
        need = used[target]
        for at in range(count):
            fits = fits and device[moved[at]] != target and seconds[moved[at], target] < np.inf
            need += memory[moved[at]]
        if not fits or need > room[target]:
            continue
        for at in range(count):
            b = moved[at]
            came_from[at] = device[b]
            _move(
                b,
                target,
                device,
                seconds,
                memory,
                touching,
                first_touching,
                producer,
                size,
                held,
                out,
                into,
                parts,
                used,
            )
        found = _score(parts, overlap, scale, power)
        if found <= score or np.random.random() < np.exp((score - found) / (heat * score)):
            score = found
            worst = 0.0
            for d in range(devices):
                worst = max(worst, _load(parts, d, overlap))
            if worst < best * (1 - 1e-12):
                best = worst
                best_device[:] = device
            continue
        for at in range(count - 1, -1, -1):
            _move(
                moved[at],
                came_from[at],
                device,
                seconds,
                memory,
                touching,
                first_touching,
                producer,
                size,
                held,
                out,
                into,
                parts,
                used,
            )
    return best, best_device
