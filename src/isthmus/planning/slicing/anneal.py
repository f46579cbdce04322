"""A good assignment without a proof: simulated annealing, from which an exact method starts.

Contiguity is not kept: for cases whose slices may lie anywhere.
"""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING

from isthmus.errors import InvalidCase
from isthmus.planning.slicing import verify
from isthmus.planning.slicing.kinds import kinds

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from isthmus.planning.slicing.blocks import Blocks
    from isthmus.planning.slicing.case import LoadCase

TURNS = 400_000
"""Moves of one round; a few tenths of a second."""


def applies(case: LoadCase) -> bool:
    """Whether what a device pays for a transfer does not depend on the other side."""
    found = kinds(case)
    return found.pace_out() is not None and found.pace_in() is not None


def improve(
    case: LoadCase, blocks: Blocks, starts: list[NDArray[np.int64]], *, seconds: float, goal: float = 0.0
) -> tuple[float, NDArray[np.int64]]:
    """Return the least largest load found within about ``seconds``, and its assignment int64 ``[b]`` of blocks
    to devices. Rounds start from the best so far and from ``starts`` in turn; ends early at ``goal``.

    Raises:
        InvalidCase: :func:`applies` is false.
    """
    import numpy as np

    from isthmus.planning.slicing import anneal_kernel as kernel

    found = kinds(case)
    out, into = found.pace_out(), found.pace_in()
    if out is None or into is None:
        raise InvalidCase("annealing needs transfers whose cost does not depend on the other side")
    per_device = np.zeros((2, len(case.devices)))
    for t, members in enumerate(found.members):
        per_device[:, members] = np.array([[out[t]], [into[t]]])
    first = np.cumsum([0, *map(len, blocks.consumers)], dtype=np.int64)
    readers = np.array(list(itertools.chain(*blocks.consumers)), dtype=np.int64)
    first_touching, touching = _touching(blocks)
    room = case.capacity_bytes * (1 + verify.TOLERANCE)
    best, chosen = float("inf"), starts[0].copy()
    deadline = time.perf_counter() + seconds
    turn = 0
    while turn == 0 or (time.perf_counter() < deadline and best > goal):
        start = starts[turn % len(starts)] if turn < 2 * len(starts) or turn % 3 == 0 else chosen
        hot, power = (0.5, 0.1, 0.02)[turn % 3], (8, 16, 32, 64)[turn % 4]
        value, device = kernel.anneal(
            start.copy(),
            blocks.seconds,
            blocks.memory_bytes,
            room,
            blocks.producer,
            blocks.size,
            first,
            readers,
            first_touching,
            touching,
            per_device[0],
            per_device[1],
            case.overlap,
            TURNS,
            hot,
            hot * 1e-3,
            power,
            (0.0, 0.05, 0.3)[turn // 2 % 3],
            turn,
        )
        if value < best:
            best, chosen = float(value), device
        turn += 1
    return best, chosen


def _touching(blocks: Blocks) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return, for each block, the signals that it makes or reads: CSR pointers and indices."""
    import numpy as np

    found: list[set[int]] = [set() for _ in blocks.members]
    for s, readers in enumerate(blocks.consumers):
        for b in (int(blocks.producer[s]), *readers):
            found[b].add(s)
    return (
        np.cumsum([0, *map(len, found)], dtype=np.int64),
        np.array(list(itertools.chain.from_iterable(map(sorted, found))), dtype=np.int64),
    )
