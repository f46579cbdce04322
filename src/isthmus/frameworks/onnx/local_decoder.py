"""A decoder for activations that have places: the same ridge regression at each of them.

Where a tensor's places lie over the input's (feature maps over an image, tokens over its patches, steps over a
sequence), one regression from a place and its neighbours to the part of the input beneath it learns from every
place of every sample. It rebuilds wide inputs from early layers, for which a thousand samples are too few to fit
a decoder of whole inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from isthmus.frameworks.onnx.decoders import Rows, one_thread

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_FEATURES = 1_600
"""Of one place and its neighbours; the normal equations are that large, squared."""
POINTS_PER_FEATURE = 12
MIN_POINTS, MAX_POINTS = 4_000, 20_000
STRENGTHS = (1e-6, 1e-4, 1e-2, 1.0)
CHUNK_BYTES = 2**26

Maps = Callable[[Any], Any]


@dataclass(frozen=True)
class Places:
    """How to see samples as maps ``[n, channels, height, width]``: the tensor's and the input's.

    ``features``: of a place with ``reach`` neighbours on each side; ``step``: the input's rows and columns
    under one place.
    """

    tensor: Maps
    raw: Maps
    channels: int
    height: int
    width: int
    step: tuple[int, int]
    reach: tuple[int, int]


def places(shape: tuple[int, ...], raw: tuple[int, ...]) -> Places | None:
    """Return how a tensor of ``shape`` lies over an input of shape ``raw`` (both without the batch); None
    where no places are known, there is but one, or it has too many features."""
    found = _aligned(shape, raw)
    if found is None or found.height * found.width < 2:
        return None
    reach = (min(1, found.height - 1), min(1, found.width - 1))
    for sides in (reach, (0, 0)):
        if found.channels * (2 * sides[0] + 1) * (2 * sides[1] + 1) <= MAX_FEATURES:
            return Places(
                found.tensor, found.raw, found.channels, found.height, found.width, found.step, sides
            )
    return None


def _aligned(shape: tuple[int, ...], raw: tuple[int, ...]) -> Places | None:
    none = (0, 0)
    if len(shape) == len(raw) == 3 and raw[1] % shape[1] == 0 == raw[2] % shape[2]:
        step = (raw[1] // shape[1], raw[2] // shape[2])
        return Places(_as_is, _as_is, *shape, step, none)
    if len(shape) == len(raw) == 2 and shape[0] == raw[0]:
        return Places(_steps_last, _steps_last, shape[1], shape[0], 1, (1, 1), none)
    if len(shape) == len(raw) == 2 and raw[1] % shape[1] == 0:
        return Places(_line, _line, *shape, 1, (raw[1] // shape[1], 1), none)
    if len(shape) == 2 and len(raw) == 3:
        return _tokens(shape, raw)
    return None


def _tokens(shape: tuple[int, ...], raw: tuple[int, ...]) -> Places | None:
    """Tokens of square patches, row by row, with or without a class token before them (Dosovitskiy et al.
    2021, section 3.1)."""
    count, channels = shape
    for step in range(1, min(raw[1:]) + 1):
        height, width = raw[1] // step, raw[2] // step
        spare = count - height * width
        if raw[1] % step == 0 == raw[2] % step and spare in (0, 1):

            def maps(values: Any, spare: int = spare, height: int = height, width: int = width) -> Any:
                tokens = values[:, spare:].transpose(0, 2, 1)
                return tokens.reshape(len(values), channels, height, width)

            return Places(maps, _as_is, channels, height, width, (step, step), (0, 0))
    return None


def _as_is(values: Any) -> Any:
    return values


def _steps_last(values: Any) -> Any:
    return values.transpose(0, 2, 1)[..., None]


def _line(values: Any) -> Any:
    return values[..., None]


def local(
    values: NDArray[Any], raw: NDArray[Any], shape: tuple[int, ...], rows: Rows, seed: int
) -> float | None:
    """Return the held-out R² (as in ``decoders``) of the decoder, or None where there are no places.

    ``values``: ``[N, F]``, of samples of ``shape``; ``raw``: ``[N, ...]``. The regression is fitted on a
    random choice of places of the fitting samples, and judged on every place of the held-out ones.
    """
    where = places(shape, raw.shape[1:])
    if where is None:
        return None
    with one_thread():
        return _judged(_Pairs(values, raw, shape, where, rows.fit), raw, rows, seed)


def _judged(fitted: _Pairs, raw: NDArray[Any], rows: Rows, seed: int) -> float:
    import numpy as np

    random = np.random.default_rng(seed)
    train, check = fitted.sample(0, rows.train, random), fitted.sample(rows.train, rows.fit, random)
    scored = [(_error(check, _fit(train, strength)), -strength) for strength in STRENGTHS]
    both = tuple(np.concatenate(parts) for parts in zip(train, check, strict=True))
    weights = _fit((both[0], both[1]), -min(scored)[1])
    wrong = sum(_error(pair, weights) for pair in fitted.all(rows.fit, len(raw)))
    held = np.asarray(raw[rows.fit :], dtype=np.float64)
    return 1 - wrong / float(((held - held.mean(axis=0)) ** 2).sum())


class _Pairs:
    """Places and what lies beneath them, as rows; both centred by each element's mean over the fitting rows."""

    def __init__(
        self, values: NDArray[Any], raw: NDArray[Any], shape: tuple[int, ...], where: Places, fit: int
    ) -> None:
        import numpy as np

        self._values, self._raw, self._shape, self._where = values, raw, shape, where
        self._mean = _mean(values, fit)
        self._raw_mean = raw[:fit].mean(axis=0, dtype=np.float64).astype(np.float32)
        sides = where.reach
        self._features = where.channels * (2 * sides[0] + 1) * (2 * sides[1] + 1)

    def sample(self, start: int, end: int, random: np.random.Generator) -> tuple[Any, Any]:
        """Return features and targets of places of samples ``[start, end)``, as many of each sample."""
        import numpy as np

        wanted = min(MAX_POINTS, max(MIN_POINTS, POINTS_PER_FEATURE * self._features))
        there = self._where.height * self._where.width
        each = min(there, -(-wanted // (end - start)))
        parts = []
        for features, targets in self.all(start, end):
            count = len(features) // there
            picks = np.concatenate(
                [n * there + random.choice(there, each, replace=False) for n in range(count)]
            )
            parts.append((features[picks], targets[picks]))
        return np.concatenate([f for f, _ in parts]), np.concatenate([t for _, t in parts])

    def all(self, start: int, end: int) -> Iterator[tuple[Any, Any]]:
        """Yield those of every place of samples ``[start, end)``, sample by sample, some at a time."""
        there = self._where.height * self._where.width
        size = max(1, CHUNK_BYTES // (4 * there * self._features))
        for first in range(start, end, size):
            yield self._pairs(first, min(end, first + size))

    def _pairs(self, start: int, end: int) -> tuple[Any, Any]:
        import numpy as np

        where, count = self._where, end - start
        flat = self._values[start:end] - self._mean
        maps = where.tensor(flat.reshape(count, *self._shape))
        down, across = where.reach
        padded = np.pad(maps, ((0, 0), (0, 0), (down, down), (across, across)))
        window = (2 * down + 1, 2 * across + 1)
        seen = np.lib.stride_tricks.sliding_window_view(padded, window, axis=(2, 3))
        features = seen.transpose(0, 2, 3, 1, 4, 5).reshape(-1, self._features)
        beneath = where.raw(np.asarray(self._raw[start:end]) - self._raw_mean)
        high, wide = where.step
        split = beneath.reshape(count, -1, where.height, high, where.width, wide)
        targets = split.transpose(0, 2, 4, 1, 3, 5).reshape(len(features), -1)
        return features, targets


def _mean(values: NDArray[Any], fit: int) -> Any:
    import numpy as np

    total = np.zeros(values.shape[1])
    for start in range(0, fit, 64):
        total += values[start : min(fit, start + 64)].sum(axis=0, dtype=np.float64)
    return (total / fit).astype(np.float32)


def _fit(pair: tuple[Any, Any], strength: float) -> Any:
    """Return the weights ``[features, targets]`` of ridge regression, by the normal equations."""
    import numpy as np
    from scipy.linalg import solve

    features, targets = pair
    inner = (features.T @ features).astype(np.float64)
    size = float(np.diag(inner).mean()) or 1.0
    inner[np.diag_indices_from(inner)] += strength * size
    return solve(inner, (features.T @ targets).astype(np.float64), assume_a="pos").astype(np.float32)


def _error(pair: tuple[Any, Any], weights: Any) -> float:
    import numpy as np

    features, targets = pair
    return float(((targets - features @ weights).astype(np.float64) ** 2).sum())
