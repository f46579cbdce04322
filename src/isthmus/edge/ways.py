"""The ways that a request can take through a sliced model, with what each should cost at present."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from isthmus.edge.balancer import Option
from isthmus.edge.guard import Guard
from isthmus.edge.slices import Slices
from isthmus.inference.datatypes import NUMPY
from isthmus.model.bundle import TensorSpec
from isthmus.model.sliced import Cast, ModelSlice

ITEM_BYTES = {"bool": 1, "float16": 2, "float32": 4, "float64": 8, "object": 32}
ENVELOPE_BYTES = 1500
"""Headers and JSON of a request and its answer."""
LEARN = 0.2
REFUSED_SECONDS = 60.0
"""How long a model that the cloud does not serve is not asked for again."""


@dataclass(frozen=True)
class Prices:
    """``usd_per_request`` and ``usd_per_second``: what the cloud asks for each request, and for its seconds."""

    usd_per_request: float = 0.0
    usd_per_second: float = 0.0


@dataclass
class Ways:
    """``whole``: the name and version under which the cloud serves the whole model. Seconds are of one sample."""

    slices: Slices
    guard: Guard
    whole: tuple[str, str]
    prices: Prices = field(default_factory=Prices)
    whole_seconds: float = 0.0
    cloud_seconds: dict[str, float] = field(default_factory=dict)
    unserved_until: dict[str, float] = field(default_factory=dict)

    def options(self, now: float, rows: int) -> list[Option]:
        """Return them for a request of so many rows: local first, then cut by cut."""
        here = self.whole_seconds * rows
        found = [Option("local", self.slices.count, here)]
        if (planned := self._planned()) is not None:
            found.append(self._through_cloud(now, *planned, rows, here))
        for cut in range(min(len(self.slices.engines), self.slices.count - 1) + 1):
            found.append(self._through_cloud(now, cut, None, rows, here))
        return found

    def _planned(self) -> tuple[int, int] | None:
        """Return the first and the end of the slices that were planned for elsewhere, where this device runs both what
        comes before them and what comes after; None for any other plan."""
        entries = self.slices.document.slices
        away = [at for at, entry in enumerate(entries) if entry.device != entries[0].device]
        if not away or not self.slices.whole_here or away[-1] + 1 == len(entries):
            return None
        return (away[0], away[-1] + 1) if len(away) == away[-1] + 1 - away[0] else None

    def crossing(self, option: Option) -> tuple[str, ...]:
        """Return the tensors that leave this device."""
        if option.kind == "cloud":
            return tuple(spec.name for spec in self.slices.document.inputs)
        entries = self.entries(option)
        made = {spec.name for entry in entries for spec in entry.outputs}
        read = (spec.name for entry in entries for spec in entry.inputs)
        return tuple(dict.fromkeys(name for name in read if name not in made))

    def entries(self, option: Option) -> tuple[ModelSlice, ...]:
        """Return the slices that run in the cloud one by one."""
        return self.slices.document.slices[option.cut : option.back]

    def calls(self, option: Option) -> list[tuple[str, str | None]]:
        """Return the names and versions of what the cloud is asked for, in order."""
        if option.kind == "cloud":
            return [self.whole]
        return [(entry.name, str(entry.release) if entry.release else None) for entry in self.entries(option)]

    def took(self, number: int, seconds: float, rows: int) -> None:
        """Learn what a slice took here."""
        known = self.slices.seconds
        known[number] += LEARN * (seconds / rows - known[number])

    def whole_took(self, seconds: float, rows: int) -> None:
        """Learn what the whole took here."""
        first = not self.whole_seconds
        self.whole_seconds += (1 if first else LEARN) * (seconds / rows - self.whole_seconds)

    def cloud_took(self, name: str, seconds: float, rows: int) -> None:
        """Learn what a model took in the cloud, as the cloud says."""
        before = self.cloud_seconds.get(name, seconds / rows)
        self.cloud_seconds[name] = before + LEARN * (seconds / rows - before)

    def not_served(self, name: str, now: float) -> None:
        """Remember that the cloud refuses to run a model."""
        self.unserved_until[name] = now + REFUSED_SECONDS

    def _through_cloud(self, now: float, cut: int, back: int | None, rows: int, here: float) -> Option:
        known = self.slices.seconds
        rest = sum(known[cut:]) * rows if cut and self.slices.whole_here else here
        way = Option("split" if cut else "cloud", cut, sum(known[:cut]) * rows, rest, back=back)
        calls = self.calls(way)
        each = (self.cloud_seconds.get(name, self._guess(cut, at)) for at, (name, _) in enumerate(calls))
        there = rows * sum(each)
        return replace(
            way,
            cloud_seconds=there,
            after_seconds=0.0 if back is None else sum(known[back:]) * rows,
            moved_bytes=self._moved_bytes(way, rows),
            usd=self.prices.usd_per_request * len(calls) + self.prices.usd_per_second * there,
            refused=self.guard.refusal(self.crossing(way))
            or self._narrowed(way)
            or self._unserved(now, calls),
        )

    def _guess(self, cut: int, at: int) -> float:
        """Return what a model should take in the cloud that was never asked for it: as planned."""
        planned = [entry.compute_seconds for entry in self.slices.document.slices]
        return planned[cut + at] if cut else sum(planned)

    def _narrowed(self, option: Option) -> str:
        """Raw inputs that later slices read would be cast with what crosses, and the proof did not do that."""
        document = self.slices.document
        if option.kind == "cloud" or not document.cast:
            return ""
        raw = sorted(document.castable_inputs & set(self.crossing(option)))
        return (
            f"the raw input {raw[0]!r} would be sent as {document.cast}, which the proof did not do"
            if raw
            else ""
        )

    def _unserved(self, now: float, calls: Iterable[tuple[str, str | None]]) -> str:
        found = [name for name, _ in calls if self.unserved_until.get(name, -math.inf) > now]
        return f"the cloud does not serve {found[0]!r}" if found else ""

    def _moved_bytes(self, option: Option, rows: int) -> float:
        document = self.slices.document
        if option.kind == "cloud":
            return ENVELOPE_BYTES + size_of(document.inputs, rows) + size_of(document.outputs, rows)
        entries = self.entries(option)
        sent = sum(size_of(entry.inputs, rows, document.cast) for entry in entries)
        return sent + sum(ENVELOPE_BYTES + size_of(entry.outputs, rows) for entry in entries)


def size_of(specs: Iterable[TensorSpec], rows: int, cast: Cast = "") -> int:
    """Return the bytes of tensors whose free sizes are ``rows``, 32-bit floats sent as ``cast``."""
    total = 0
    for spec in specs:
        item = (cast or "float32") if spec.datatype == "FP32" else NUMPY[spec.datatype]
        each = ITEM_BYTES.get(item) or int(item.lstrip("uint")) // 8
        total += math.prod(rows if size == -1 else size for size in spec.shape) * each
    return total


def rows_of(inputs: Mapping[str, Any]) -> int:
    """Return the batch of a request's arrays, at least one."""
    return max((array.shape[0] for array in inputs.values() if array.ndim), default=1) or 1
