"""A training step of slices as a list of what each worker does, in order; it prints, and is checked before it runs.

Usually a worker has one slice. A U-shaped division gives the first and the last slice to one worker: then neither raw
inputs nor labels leave it (Vepakomma et al. 2018, "Split learning for health"). The order is 1F1B's of the slices
(``schedule``); where one worker has several, theirs are merged by the slots in which they would run: each pass needs
only passes of earlier slots, so no order of this kind can wait for ever.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from isthmus.errors import InvalidCase
from isthmus.planning.slicing.schedule import MARK, Action, Schedule, check, needs, schedule


@dataclass(frozen=True, slots=True)
class Pass:
    """A slice's pass of one micro-batch."""

    stage: int
    action: Action

    def __str__(self) -> str:
        return f"{self.action}@{self.stage}"


Passes = tuple[tuple[Pass, ...], ...]
"""For each worker, what it runs in a step, in order; then every slice it has makes its step."""


def straight(stages: int) -> tuple[int, ...]:
    """Return the places of slices that have a worker each: slice to worker."""
    return tuple(range(stages))


def u_shaped(stages: int) -> tuple[int, ...]:
    """Return the places where the first worker has the last slice as well.

    Raises:
        InvalidCase: fewer than three slices.
    """
    if stages < 3:
        raise InvalidCase(
            f"labels stay with the first slice in a U of three slices or more; there are {stages}"
        )
    return (*range(stages - 1), 0)


def passes(places: Sequence[int], microbatches: int) -> Passes:
    """Return a step's passes. ``places``: each slice's worker; workers are numbered from 0.

    Raises:
        InvalidCase: a worker has no slice, or there is no slice or micro-batch.
    """
    workers = max(places, default=-1) + 1
    if set(places) != set(range(workers)) or not workers:
        raise InvalidCase(
            f"each of the workers 0, 1, … needs a slice; the slices are placed on {tuple(places)}"
        )
    rows = schedule(len(places), microbatches)
    check(rows)
    slots = _slots(rows)
    found: list[list[tuple[int, int, Pass]]] = [[] for _ in range(workers)]
    for stage, row in enumerate(rows):
        for action in row:
            # Of passes in one slot the later slice's goes first: somebody waits for what it sends back.
            found[places[stage]].append((slots[stage, action], -stage, Pass(stage, action)))
    merged = tuple(tuple(entry[2] for entry in sorted(row, key=lambda entry: entry[:2])) for row in found)
    check_passes(places, merged)
    return merged


def rows_of(places: Sequence[int], found: Passes) -> Schedule:
    """Return what each slice runs, as the event simulator takes it."""
    return tuple(
        tuple(entry.action for entry in found[places[stage]] if entry.stage == stage)
        for stage in range(len(places))
    )


def check_passes(places: Sequence[int], found: Passes) -> None:
    """Raises InvalidCase: the workers would wait for each other for ever; the message shows where."""
    check(rows_of(places, found))
    left = _left(len(places), found)
    if any(left):
        raise InvalidCase(f"an order of passes cannot run:\n{show_passes(found, left)}")


def show_passes(found: Passes, left: Sequence[int] = ()) -> str:
    """Return one line for each worker. ``left``: how many of its last passes can never run."""
    lines = []
    for worker, row in enumerate(found):
        cells = [str(entry) for entry in row]
        if left and left[worker]:
            cells.insert(len(cells) - left[worker] + 1, MARK)
        lines.append(f"{worker} | {' '.join(cells)} step")
    return "\n".join(lines)


def _slots(rows: Schedule) -> Mapping[tuple[int, Action], int]:
    """Return the slot of each pass, all of one length, each slice computing one at a time."""
    slots: dict[tuple[int, Action], int] = {}
    following = [0] * len(rows)
    moved = True
    while moved:
        moved = False
        for stage, row in enumerate(rows):
            while following[stage] < len(row):
                action = row[following[stage]]
                before = list(needs(len(rows), stage, action))
                if any(entry not in slots for entry in before):
                    break
                earlier = [slots[entry] for entry in before]
                if following[stage]:
                    earlier.append(slots[stage, row[following[stage] - 1]])
                slots[stage, action] = max(earlier, default=-1) + 1
                following[stage] += 1
                moved = True
    return slots


def _left(stages: int, found: Passes) -> list[int]:
    done: set[tuple[int, Action]] = set()
    following = [0] * len(found)
    moved = True
    while moved:
        moved = False
        for worker, row in enumerate(found):
            while following[worker] < len(row):
                entry = row[following[worker]]
                if any(before not in done for before in needs(stages, entry.stage, entry.action)):
                    break
                done.add((entry.stage, entry.action))
                following[worker] += 1
                moved = True
    return [len(row) - count for row, count in zip(found, following, strict=True)]
