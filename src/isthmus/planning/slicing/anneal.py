"""A good assignment without a proof: simulated annealing, from which an exact method starts.

Contiguity is not kept: for cases whose slices may lie anywhere.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from isthmus.errors import InvalidCase
from isthmus.planning.slicing import verify
from isthmus.planning.slicing.kinds import paces

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from isthmus.planning.slicing.blocks import Blocks
    from isthmus.planning.slicing.case import LoadCase

    Ints = NDArray[np.int64]
    Floats = NDArray[np.float64]
    Terrain = tuple[Floats, Floats, Floats, Ints, Floats, Ints, Ints, Ints, Ints, Floats, Floats]

MOST_TURNS = 400_000
"""Moves of one round; a few tenths of a second."""
TURNS_EACH = 500
"""Moves for each block and device, up to that."""

HEAT = ((0.02, 64), (0.004, 16), (0.5, 16), (0.004, 32), (0.02, 32), (0.1, 64))
"""The first temperature of a round, relative to the score, and the norm's power: small steps of the load at the worst
device, and now and then large ones."""
TOGETHER = (0.05, 0.0, 0.05, 0.3)
"""The chance that a move is of all that touches a signal."""


def applies(case: LoadCase) -> bool:
    """Whether what a device pays for a transfer does not depend on the other side."""
    return paces(case) is not None


def improve(
    case: LoadCase,
    blocks: Blocks,
    starts: list[Ints],
    *,
    rounds: int,
    first_round: int = 0,
    stop: Callable[[float], bool] | None = None,
) -> tuple[float, Ints]:
    """Return the least largest load found, and its assignment int64 ``[b]`` of blocks to devices.

    Rounds, numbered from ``first_round``, differ in their temperatures and random numbers; they start from the best so
    far and from ``starts`` in turn. ``stop``: is asked after each, with the best load, whether to end.

    Raises:
        InvalidCase: :func:`applies` is false.
    """
    from isthmus.planning.slicing import anneal_kernel as kernel

    terrain = _terrain(case, blocks)
    turns = min(MOST_TURNS, TURNS_EACH * blocks.seconds.size)
    best, chosen = float("inf"), starts[0].copy()
    for turn in range(first_round, first_round + rounds):
        again = best < float("inf") and turn >= 2 * len(starts) and turn % 3
        start = chosen if again else starts[turn % len(starts)]
        hot, power = HEAT[turn % len(HEAT)]
        together = TOGETHER[turn % len(TOGETHER)]
        value, device = kernel.anneal(
            start.copy(), *terrain, case.overlap, turns, hot, hot * 1e-3, power, together, turn
        )
        if value < best:
            best, chosen = float(value), device
        if stop is not None and stop(best):
            break
    return best, chosen


def _terrain(case: LoadCase, blocks: Blocks) -> Terrain:
    """Return what the kernel reads of a case, in the order of its arguments."""
    import numpy as np

    found = paces(case)
    if found is None:
        raise InvalidCase("annealing needs transfers whose cost does not depend on the other side")
    first = np.cumsum([0, *map(len, blocks.consumers)], dtype=np.int64)
    readers = np.array(list(itertools.chain(*blocks.consumers)), dtype=np.int64)
    room = case.capacity_bytes * (1 + verify.TOLERANCE)
    return (
        np.ascontiguousarray(blocks.seconds),
        blocks.memory_bytes,
        room,
        blocks.producer,
        blocks.size,
        first,
        readers,
        *_touching(blocks),
        *found,
    )


def _touching(blocks: Blocks) -> tuple[Ints, Ints]:
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
