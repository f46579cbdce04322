"""Whether what a model is asked looks like what it was judged on: sampled, and cheap.

The *baseline* is of the held-out inputs as the model gets them, made where the model was judged: bins of
about equal mass, and mean and deviation of each channel. A *watch* counts a part of the requests into the same
bins, and says now and then how far they are apart: the population stability index
(``model.drift.stability_index``), and the largest shift of a channel's mean in deviations. No value of a
request is kept.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from isthmus.model.drift import Baseline, stability_index

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from isthmus.inference.served import LoadableEngine

BINS = 16
MAX_CHANNELS = 8
MAX_ELEMENTS = 4096
"""Of a sample that are put into bins, evenly spread over it."""
EVERY = 4
"""Requests from one that is looked at to the next."""
WINDOW = 16
"""Requests that were looked at from one report to the next."""


class Drift(msgspec.Struct, frozen=True):
    """``index``: the population stability index; ``shift``: the largest of the channels', in deviations."""

    index: float
    shift: float


def describe(inputs: NDArray[Any]) -> Baseline | None:
    """Return the baseline of ``inputs`` ``[N, …]``; None for what are no numbers, or all the same one."""
    import numpy as np

    if inputs.dtype.kind not in "biuf" or inputs.size == 0:
        return None
    values = inputs.astype(np.float64)
    if not np.isfinite(values).all() or values.std() == 0:
        return None
    edges = np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1]))
    shares = _counts(values, edges) / values.size
    means, deviations = _channels(values)
    rounded = ([float(f"{number:.6g}") for number in row] for row in (edges, shares, means, deviations))
    return Baseline(*map(tuple, rounded))


class WatchedEngine:
    """An engine whose inputs are watched; ``report`` hears of a drift every ``EVERY * WINDOW`` requests."""

    def __init__(self, engine: LoadableEngine, baseline: Baseline, report: Callable[[Drift], None]) -> None:
        self._engine, self._baseline, self._report = engine, baseline, report
        self._lock = threading.Lock()
        self._requests = 0
        self._seen = _Seen(baseline)

    def load(self) -> object:
        """As the engine's own."""
        return self._engine.load()

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """As the engine's own; nothing about the watch can fail a request."""
        outputs = self._engine.run(inputs)
        if len(inputs) == 1:
            (array,) = inputs.values()
            self._look(array)
        return outputs

    def _look(self, array: NDArray[Any]) -> None:
        with self._lock:
            self._requests += 1
            if self._requests % EVERY != 1 or array.dtype.kind not in "biuf":
                return
            self._seen.add(array)
            if self._seen.samples < WINDOW:
                return
            drift, self._seen = self._seen.drift(), _Seen(self._baseline)
        if drift is not None:
            with suppress(Exception):  # whatever it is, the request has its answer
                self._report(drift)


class _Seen:
    """What a window's requests came to."""

    def __init__(self, baseline: Baseline) -> None:
        self._baseline, self.samples = baseline, 0
        self._counts: Any = 0
        self._means: Any = 0

    def add(self, array: NDArray[Any]) -> None:
        import numpy as np

        means, _ = _channels(array)
        if len(means) != len(self._baseline.means):
            return
        step = max(1, array.size // MAX_ELEMENTS)
        self._counts = self._counts + _counts(array.ravel()[::step], np.array(self._baseline.edges))
        self._means = self._means + means
        self.samples += 1

    def drift(self) -> Drift | None:
        """None when a request held something infinite, which a model may be made for."""
        import numpy as np

        shares = self._counts / max(1, self._counts.sum())
        index = stability_index(shares.tolist(), self._baseline.shares)
        deviations = np.maximum(np.array(self._baseline.deviations), 1e-12)
        shift = np.abs(self._means / self.samples - np.array(self._baseline.means)) / deviations
        found = Drift(index, float(shift.max()))
        return found if math.isfinite(found.shift) else None


def _counts(values: NDArray[Any], edges: NDArray[Any]) -> NDArray[Any]:
    import numpy as np

    return np.bincount(np.searchsorted(edges, values.ravel(), side="right"), minlength=len(edges) + 1)


def _channels(array: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return mean and deviation of each channel: the second axis, or the last one, if it is short; else of all."""
    import numpy as np

    axes = [
        axis for axis in (1, array.ndim - 1) if 0 < axis < array.ndim and array.shape[axis] <= MAX_CHANNELS
    ]
    others = tuple(axis for axis in range(array.ndim) if not axes or axis != axes[0])
    means = np.atleast_1d(array.mean(axis=others, dtype=np.float64))
    return means, np.atleast_1d(array.std(axis=others, dtype=np.float64))
