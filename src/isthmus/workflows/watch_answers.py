"""How a device's answers spread, against what the model answered where it was judged: counted as results come in.

A *watch* belongs to one outbox and one model. It is kept in the outbox's mark, and moves with it: what it counted is
what the objects before the mark's number hold, so that results which are sent again are not counted again. After
``window_of`` answers it says how far their classes and confidences are from the model's own, and begins anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import msgspec

from isthmus.model.drift import (
    CONFIDENCE_BINS,
    LARGE_INDEX,
    AnswerBaseline,
    confidence_bin,
    stability_index,
)
from isthmus.model.results import Answered

LEAST_WINDOW, WINDOW_PER_BIN = 250, 25
MAX_MODELS = 8
"""Of an outbox: its mark is one item of a table."""

Baselines = Callable[[str, int], AnswerBaseline | None]
_answers = msgspec.json.Decoder(Answered)


class AnswerDrift(msgspec.Struct, frozen=True, kw_only=True):
    """Stability indices of the last ``samples`` answers; ``at_ms``: of the last one, by the device's clock.
    ``confidence`` None: the model has none."""

    classes: float
    confidence: float | None = None
    samples: int
    at_ms: int

    @property
    def is_large(self) -> bool:
        """Whether either is."""
        return max(self.classes, self.confidence or 0.0) > LARGE_INDEX


class Watch(msgspec.Struct, kw_only=True):
    """Of one release of a model. ``seen``: answered samples. ``classes``, ``confidence``: counts of the window that is
    under way, in the baseline's bins; empty without a baseline. ``drift``: of the last full window."""

    release: int
    seen: int = 0
    window: int = 0
    classes: list[int] = []
    confidence: list[int] = []
    drift: AnswerDrift | None = None


class Line(Protocol):
    """What is read of a result."""

    @property
    def model(self) -> str: ...
    @property
    def release(self) -> int: ...
    @property
    def at_ms(self) -> int: ...
    @property
    def outputs(self) -> msgspec.Raw: ...


def window_of(baseline: AnswerBaseline) -> int:
    """Return how many answers make a window: so many that chance alone leaves the index below 0.1.

    Without a change the index is on average ``(bins - 1) * (1 / n + 1 / m)`` for samples of n and m (B. Yurdakul,
    Statistical Properties of Population Stability Index, 2018: a multiple of a chi-square distribution).
    """
    bins = max(len(baseline.shares), len(baseline.confidence))
    return max(LEAST_WINDOW, WINDOW_PER_BIN * bins)


def watch(
    watches: dict[str, Watch], lines: Iterable[Line], baselines: Baselines
) -> list[tuple[str, AnswerDrift]]:
    """Count results, in their order; return the drifts of the windows that became full, with their models.

    Another release begins anew, an earlier one too, to which a rollback leads: an outbox's results come in order.
    """
    found = []
    for line in lines:
        current = _current(watches, line)
        answered = _read(line.outputs)
        if current is None or answered is None:
            continue
        current.seen += len(answered.predictions)
        baseline = baselines(line.model, line.release)
        if baseline is None or not answered.predictions:
            continue
        _count(current, answered, baseline)
        if current.window >= window_of(baseline):
            current.drift = _drift(current, baseline, line.at_ms)
            current.window, current.classes, current.confidence = 0, [], []
            found.append((line.model, current.drift))
    return found


def read_watches(kept: Any) -> dict[str, Watch]:
    """Return what a mark holds; nothing for one without."""
    return msgspec.convert(kept or {}, dict[str, Watch])


def _current(watches: dict[str, Watch], line: Line) -> Watch | None:
    current = watches.get(line.model)
    if current is None and len(watches) >= MAX_MODELS:
        return None
    if current is None or current.release != line.release:
        current = watches[line.model] = Watch(release=line.release)
    return current


def _read(outputs: msgspec.Raw) -> Answered | None:
    """Return what an edge core told; None for what anybody else put into an outbox."""
    try:
        return _answers.decode(outputs)
    except msgspec.DecodeError:
        return None


def _count(current: Watch, answered: Answered, baseline: AnswerBaseline) -> None:
    if len(current.classes) != len(baseline.shares):
        current.classes = [0] * len(baseline.shares)
        current.confidence = [0] * CONFIDENCE_BINS
        current.window = 0
    places = {index: place for place, index in enumerate(baseline.classes)}
    for entry in answered.predictions:
        current.classes[places.get(entry.index, -1)] += 1
        if entry.confidence is not None:
            current.confidence[confidence_bin(entry.confidence)] += 1
        current.window += 1


def _drift(current: Watch, baseline: AnswerBaseline, at_ms: int) -> AnswerDrift:
    sure = sum(current.confidence)
    return AnswerDrift(
        classes=stability_index([count / current.window for count in current.classes], baseline.shares),
        confidence=stability_index([count / sure for count in current.confidence], baseline.confidence)
        if sure and baseline.confidence
        else None,
        samples=current.window,
        at_ms=at_ms,
    )
