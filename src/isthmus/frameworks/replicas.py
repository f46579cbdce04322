"""Shares of a batch for replicas on unequal devices: measured while they train, changed between steps, and written
down, so that who begins again shares as before.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

from isthmus.errors import InvalidDocument, InvalidInput
from isthmus.planning.shares import by_rate, equal, seconds

SMOOTHING = 0.3
"""What a new measurement counts for against all former ones."""
SETTLING = 2
"""Steps whose times do not count: memory is taken and caches are filled."""
GAIN = 0.02
"""Shares are changed when a step is expected to become so much shorter."""


@dataclass(frozen=True)
class Taken:
    """The samples that each replica had in a step."""

    step: int
    rows: tuple[int, ...]


@dataclass
class Sharing:
    """Decides on shares. ``first``: the number of the step that comes next; ``record``: a file of lines of JSON, to
    which each step's shares are added before it begins; steps that it has already are shared as it says. ``fixed``:
    rates that are not measured."""

    replicas: int
    record: Path | None = None
    first: int = 0
    fixed: Sequence[float] | None = None
    taken: list[Taken] = field(default_factory=list)
    _known: dict[int, tuple[int, ...]] = field(default_factory=dict)
    _each: list[float] = field(default_factory=list)
    _measured: int = 0
    _is_open: bool = False

    def __post_init__(self) -> None:
        if self.fixed is not None and len(self.fixed) != self.replicas:
            raise InvalidInput(f"there are {self.replicas} replicas, and rates of {len(self.fixed)}")
        if self.record is not None and self.record.exists():
            self._known = _read(self.record, self.replicas)

    def begin(self, rows: int) -> tuple[int, ...]:
        """Return the shares of the next call, of so many samples; zero is possible. A call that did not end is begun
        again by the next, under its number.

        Raises:
            InvalidInput: the record is of another batch.
        """
        again = self.taken.pop() if self._is_open else None
        self._is_open = True
        step = self.first + len(self.taken)
        if again is not None and sum(again.rows) == rows:
            self.taken.append(again)
            return again.rows
        found = self._known.get(step)
        if found is not None and sum(found) != rows:
            raise InvalidInput(
                f"{self.record} says that step {step} had {sum(found)} samples; it has {rows}: this is another training"
            )
        if found is None:
            found = self._chosen(rows)
            self._note(step, found)
        self.taken.append(Taken(step, found))
        return found

    def some(self, rows: int) -> tuple[int, ...]:
        """Return shares outside of the steps, such as for an evaluation; they are not written down."""
        return self._chosen(rows)

    def end(self, rows: Sequence[int], each_seconds: Sequence[float]) -> None:
        """Learn of the seconds that each replica computed in a step."""
        self._is_open = False
        self._measured += 1
        if self._measured <= SETTLING:
            return
        new = [taken / count if count else 0.0 for count, taken in zip(rows, each_seconds, strict=True)]
        if not self._each:
            self._each = new
            return
        self._each = [
            old if not now else now if not old else old + SMOOTHING * (now - old)
            for old, now in zip(self._each, new, strict=True)
        ]

    @property
    def rates(self) -> tuple[float, ...]:
        """Samples per second of each replica, as measured; empty before."""
        return tuple(self.fixed or (1 / each for each in self._each if each > 0))

    def _chosen(self, rows: int) -> tuple[int, ...]:
        before = self.taken[-1].rows if self.taken else ()
        rates = self.rates
        if len(rates) != self.replicas:
            return before if sum(before) == rows else equal(rows, self.replicas)
        found = by_rate(rows, rates)
        if sum(before) == rows and seconds(found, rates) > (1 - GAIN) * seconds(before, rates):
            return before
        return found

    def _note(self, step: int, rows: Sequence[int]) -> None:
        if self.record is None:
            return
        self.record.parent.mkdir(parents=True, exist_ok=True)
        # Before the step: what it comes to depends on it.
        with self.record.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "rows": list(rows)}) + "\n")
            file.flush()
            os.fsync(file.fileno())


def _read(path: Path, replicas: int) -> dict[int, tuple[int, ...]]:
    found: dict[int, tuple[int, ...]] = {}
    lines = path.read_text(encoding="utf-8").split("\n")
    # The last line was cut off if it has no end; its step did not begin.
    for line in lines[:-1]:
        try:
            entry = json.loads(line)
            step, rows = int(entry["step"]), tuple(map(int, entry["rows"]))
        except (ValueError, TypeError, KeyError) as error:
            raise InvalidDocument(f"{path} has a line that is no record of shares: {line[:80]!r}") from error
        if len(rows) != replicas:
            raise InvalidDocument(f"{path} has shares of {len(rows)} replicas; there are {replicas}")
        found[step] = rows
    if lines[-1]:
        path.write_text("".join(f"{line}\n" for line in lines[:-1]), encoding="utf-8")
    return found


def spans(rows: Sequence[int]) -> list[slice]:
    """Return each replica's samples of a batch."""
    ends = list(accumulate(rows))
    return [slice(end - count, end) for count, end in zip(rows, ends, strict=True)]


def joined(parts: Sequence[Mapping[str, Any]], name: str) -> Any:
    """Return an array whose samples the replicas have."""
    import numpy as np

    return np.concatenate([each[name] for each in parts], axis=0)


def summed(parts: Sequence[Mapping[str, Any]], name: str) -> Any:
    """Return what gradients come to, added up from the first replica to the last."""
    found = parts[0][name]
    for each in parts[1:]:
        found = found + each[name]
    return found


def averaged(parts: Sequence[Mapping[str, Any]], rows: Sequence[int], name: str) -> Any:
    """Return the mean of statistics, weighted by samples, in the arrays' own type."""
    import numpy as np

    first = parts[0][name]
    if not np.issubdtype(first.dtype, np.floating):
        return max((each[name] for each in parts), key=lambda array: array.max(initial=0))
    weights = np.asarray(rows, np.float64) / sum(rows)
    total = sum(weight * each[name].astype(np.float64) for weight, each in zip(weights, parts, strict=True))
    return np.asarray(total).astype(first.dtype)
