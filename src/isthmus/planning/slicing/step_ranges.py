"""A good training plan without a proof, on however many devices: as a pipeline whose busiest stage is quickest.

A step is the longer the more stages there are and the slower the slowest is. Beyond the exact range the slowest is
lowered by :mod:`ranges`, with all devices and with fewer; of these plans the one with the shortest step is taken.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from isthmus.planning.slicing import ranges
from isthmus.planning.slicing.blocks import merge
from isthmus.planning.slicing.case import LoadCase
from isthmus.planning.slicing.step_case import cut_positions

if TYPE_CHECKING:
    from isthmus.planning.slicing.blocks import Blocks
    from isthmus.planning.slicing.solution import Stage
    from isthmus.planning.slicing.step_case import StepCase

MOST_SECONDS_A_BYTE = 1e30
"""For a link that is not there: no plan uses it, and nothing times it is nothing."""


def improve(
    case: StepCase, score: Callable[[Sequence[Stage]], float | None], *, seconds: float
) -> tuple[Stage, ...] | None:
    """Return the plan with the shortest step found within about ``seconds``; None where none was met.

    ``score``: seconds of a step, None where a plan breaks a constraint.
    """
    until, m = time.perf_counter() + seconds, len(case.devices)
    ranked = _by_speed(case)
    counts = sorted({m, *(count for k in range(7) if (count := 2**k) < m)}, reverse=True)
    best: tuple[float, tuple[Stage, ...]] | None = None
    for number, count in enumerate(counts):
        load = _load(case, set(ranked[:count]), count)
        each = max(until - time.perf_counter(), 0.0) / (len(counts) - number)
        blocks = _blocks(load)
        stages = ranges.improve(load, blocks, seconds=each, orders=[tuple(range(len(blocks.members)))])
        value = score(stages) if stages is not None else None
        if stages is not None and value is not None and (best is None or value < best[0]):
            best = value, stages
    return best[1] if best is not None else None


def _by_speed(case: StepCase) -> list[int]:
    """Return the devices that may run most operators first, and of these the fastest."""
    import numpy as np

    seconds = case.forward_seconds + case.backward_seconds
    barred = np.isinf(seconds).sum(axis=0)
    work = np.where(np.isfinite(seconds), seconds, 0.0).sum(axis=0)
    return sorted(
        range(len(case.devices)), key=lambda d: (not np.isfinite(seconds[0, d]), barred[d], work[d], d)
    )


def _load(case: StepCase, chosen: set[int], stages: int) -> LoadCase:
    """Return the case of the busiest device, on some devices; each stage holds as many micro-batches as any may."""
    import numpy as np

    seconds = case.forward_seconds + case.backward_seconds
    seconds[:, [d for d in range(len(case.devices)) if d not in chosen]] = np.inf
    held = min(case.microbatches, stages)
    memory = case.parameter_bytes * case.state_bytes_per_weight_byte + held * case.activation_bytes
    pace = np.minimum(case.seconds_per_byte, MOST_SECONDS_A_BYTE)
    return LoadCase(
        graph=case.graph,
        devices=case.devices,
        seconds=seconds,
        memory_bytes=memory,
        capacity_bytes=case.capacity_bytes,
        send_seconds=pace,
        receive_seconds=pace,
        overlap=case.overlap,
    )


def _blocks(case: LoadCase) -> Blocks:
    """Return what lies between places for a cut, in the one order of which stages are ranges."""
    positions, order = cut_positions(case.graph), case.graph.topological
    block_of = [0] * len(order)
    for number, (start, end) in enumerate(itertools.pairwise(positions)):
        for v in order[start:end]:
            block_of[v] = number
    return merge(case, block_of, len(positions) - 1)
