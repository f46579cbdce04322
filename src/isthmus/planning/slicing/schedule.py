"""Orders of forward and backward passes in a pipeline, as data that prints and parses.

One row for each stage, one column for each slot in which every action takes the same time::

    0 | F0 F1 F2 .  .  B0 F3 B1 .  B2 .  B3
    1 | .  F0 F1 .  B0 F2 B1 F3 B2 .  B3
    2 | .  .  F0 B0 F1 B1 F2 B2 F3 B3

``F2`` is the forward pass of micro-batch 2, ``B2`` its backward pass, ``.`` a wait.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from isthmus.errors import InvalidCase

MARK = "<-- ERROR HERE"
WAIT = "."
_ROW = re.compile(r"\s*(\d+)\s*\|(.*)")
_CELL = re.compile(r"([FB])(\d+)")


@dataclass(frozen=True, slots=True)
class Action:
    """One pass of one micro-batch through a stage."""

    kind: Literal["F", "B"]
    microbatch: int

    def __str__(self) -> str:
        return f"{self.kind}{self.microbatch}"


Schedule = tuple[tuple[Action, ...], ...]
"""For each stage, its actions in the order in which it runs them."""


def in_flight(stages: int, stage: int, microbatches: int) -> int:
    """Return how many micro-batches' activations a stage holds at most under 1F1B: one for itself and one
    for each later stage (Narayanan et al. 2021, "Memory-efficient pipeline-parallel DNN training")."""
    return min(microbatches, stages - stage)


def schedule(stages: int, microbatches: int) -> Schedule:
    """Return 1F1B, synchronous: a stage first runs a forward pass for each later stage, then forward and
    backward in turn, then the backward passes that are left (PipeDream-Flush, Narayanan et al. 2021).

    Raises:
        InvalidCase: fewer than one stage or micro-batch.
    """
    if stages < 1 or microbatches < 1:
        raise InvalidCase(
            f"a schedule needs at least one stage and one micro-batch; asked were {stages} and {microbatches}"
        )
    return tuple(_row(in_flight(stages, k, microbatches), microbatches) for k in range(stages))


def _row(held: int, microbatches: int) -> tuple[Action, ...]:
    found = [Action("F", i) for i in range(held - 1)]
    for i in range(held - 1, microbatches):
        found += [Action("F", i), Action("B", i - held + 1)]
    found += [Action("B", i) for i in range(microbatches - held + 1, microbatches)]
    return tuple(found)


def needs(stages: int, stage: int, action: Action) -> Iterator[tuple[int, Action]]:
    """Yield what must have run before, on which stage, besides what stands earlier in the stage's row."""
    if action.kind == "F":
        if stage:
            yield stage - 1, action
        return
    yield stage, Action("F", action.microbatch)
    if stage + 1 < stages:
        yield stage + 1, action


def show(rows: Schedule) -> str:
    """Return the grid. In an order that cannot run, what waits for ever is marked ``<-- ERROR HERE``."""
    slots, left = _run(rows)
    width = max((len(str(action)) for row in rows for action in row), default=1)
    length = max((slot + 1 for row in slots for slot in row), default=0)
    lines = []
    for k, row in enumerate(rows):
        cells = [WAIT] * (max(slots[k]) + 1 if slots[k] else 0)
        for slot, action in zip(slots[k], row, strict=False):
            cells[slot] = str(action)
        if left[k]:
            cells += [WAIT] * (length - len(cells))
            cells += [f"{left[k][0]} {MARK}", *map(str, left[k][1:])]
        lines.append(f"{k:>{len(str(len(rows) - 1))}} | {' '.join(c.ljust(width) for c in cells)}".rstrip())
    return "\n".join(lines)


def parse(text: str) -> Schedule:
    """Return the rows of a grid; waits and marks are passed over.

    Raises:
        InvalidCase: a row has another number than its place, or a cell is no action.
    """
    found: list[tuple[Action, ...]] = []
    for line in filter(str.strip, text.splitlines()):
        match = _ROW.fullmatch(line)
        if match is None or int(match[1]) != len(found):
            raise InvalidCase(f"row {len(found)} of a schedule starts with '{len(found)} |'; read: {line!r}")
        cells = [cell for cell in match[2].replace(MARK, " ").split() if cell != WAIT]
        found.append(tuple(_action(cell, len(found)) for cell in cells))
    if not found:
        raise InvalidCase("a schedule needs at least one row; the text has none")
    return tuple(found)


def _action(cell: str, row: int) -> Action:
    match = _CELL.fullmatch(cell)
    if match is None:
        raise InvalidCase(
            f"row {row} of a schedule holds {cell!r}; a cell is F or B and a number, such as F0"
        )
    return Action("F" if match[1] == "F" else "B", int(match[2]))


def check(rows: Schedule) -> int:
    """Return the number of micro-batches of an order that can run, each once forward and once backward
    through every stage.

    Raises:
        InvalidCase: it cannot; the message shows the grid with ``<-- ERROR HERE``.
    """
    _, left = _run(rows)
    if any(left):
        raise InvalidCase(f"an order of passes cannot run:\n{show(rows)}")
    count = len(rows[0]) // 2 if rows else 0
    wanted = sorted(f"{kind}{i}" for kind in "FB" for i in range(count))
    for k, row in enumerate(rows):
        if not count or sorted(map(str, row)) != wanted:
            raise InvalidCase(
                f"each stage needs F and B of the same micro-batches, from 0 on, once each; "
                f"stage {k} has {' '.join(map(str, row)) or 'none'}"
            )
    return count


def _run(rows: Schedule) -> tuple[list[list[int]], list[Sequence[Action]]]:
    """Run the order with actions of one slot each. Return each stage's slots, and what never ran."""
    done: dict[tuple[int, Action], int] = {}
    slots: list[list[int]] = [[] for _ in rows]
    moved = True
    while moved:
        moved = False
        for k, row in enumerate(rows):
            while len(slots[k]) < len(row):
                action = row[len(slots[k])]
                before = list(needs(len(rows), k, action))
                if (k, action) in done or any(entry not in done for entry in before):
                    break
                after = max((done[entry] for entry in before), default=-1)
                slots[k].append(max(after, slots[k][-1] if slots[k] else -1) + 1)
                done[k, action] = slots[k][-1]
                moved = True
    return slots, [row[len(slots[k]) :] for k, row in enumerate(rows)]
