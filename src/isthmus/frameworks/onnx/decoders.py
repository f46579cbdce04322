"""Decoders that rebuild a network's raw input from activations: kernel ridge regression, in closed form.

Activations and inputs appear only as matrices of inner products between samples (Gram matrices), added up by
blocks of elements, so that neither their width nor that of the inputs needs memory: everything here is
``[N, N]``. Rows are ordered: ``[0, train)`` fit, ``[train, fit)`` choose the strength of regularisation and the
width of the kernel, ``[fit, N)`` are held out and judge.

Kernel ridge regression: Saunders, Gammerman and Vovk 1998; the linear kernel is ridge regression in dual form.
R² of several outputs, weighted by their variance: ``1 - sum (y - p)^2 / sum (y - mean y)^2`` over samples and
elements, means by element (scikit-learn's ``r2_score(..., multioutput="variance_weighted")``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

BLOCK = 16_384
"""Elements at a time: 118 MB of float32 for 1,800 samples."""
STRENGTHS = (1e-7, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Of the regularisation, in units of the kernel's mean diagonal."""
WIDTHS = (0.03, 0.1, 0.3, 1.0)
"""Of ``exp(-width * distance^2 / median distance^2)``."""
STILL = 1e-6
"""An element whose deviation is below that part of its mean does not vary: it is float32's rounding."""


@dataclass(frozen=True)
class Rows:
    """``train``, ``fit``: where the rows' parts end, as above."""

    train: int
    fit: int


def one_thread() -> AbstractContextManager[Any]:
    """Return a context in which BLAS runs on one thread: of matrices of a thousand rows its threads wait for
    each other for most of the time, and on a busy machine for nearly all of it."""
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[Any] = threadpool_limits(1, user_api="blas")
    return limits


def grams(values: NDArray[Any], fit: int) -> tuple[Floats, Floats]:
    """Return Gram matrices ``[N, N]`` of ``values`` (``[N, F]``), centred by the mean of the first ``fit``
    rows: of the elements as they are, and each divided by its deviation. The mean of the diagonal over
    those rows is 1, or 0 where nothing varies."""
    import numpy as np

    plain = np.zeros((len(values), len(values)))
    scaled = np.zeros_like(plain)
    for block, deviation, still in _blocks(values, fit):
        moving, spread = block[:, ~still], deviation[~still].astype(block.dtype)
        plain += moving @ moving.T
        moving /= spread
        scaled += moving @ moving.T
    for matrix in (plain, scaled):
        size = np.diag(matrix)[:fit].mean()
        if size > 0:
            matrix /= size
    return plain, scaled


def target_gram(values: NDArray[Any], fit: int) -> Floats:
    """Return the Gram matrix of all elements of ``values``, centred by the mean of the first ``fit`` rows."""
    import numpy as np

    result = np.zeros((len(values), len(values)))
    for block, _, _ in _blocks(values, fit):
        result += block @ block.T
    return result


def variance(targets: Floats, start: int) -> float:
    """Return the sum of squares of the rows from ``start`` around their own mean, of a Gram matrix."""
    part = targets[start:, start:]
    return float(part.trace() - part.sum() / len(part))


def kernel_decoders(plain: Floats, scaled: Floats, targets: Floats, rows: Rows) -> dict[str, float]:
    """Return the held-out R² of a linear and of a radial decoder, each of both Gram matrices."""
    found = {}
    with one_thread():
        for prefix, gram in (("", plain), ("scaled ", scaled)):
            found[f"{prefix}ridge"] = _judged([gram], targets, rows)
            found[f"{prefix}rbf"] = _judged(list(_radial(gram, rows.fit)), targets, rows)
    return found


def elementwise(values: NDArray[Any], raw: NDArray[Any], fit: int) -> float:
    """Return the held-out R² of a straight line from each element of ``values`` to the same element of
    ``raw`` (both ``[N, F]``): what normalises or reshapes the input is undone by that, however wide."""
    import numpy as np

    wrong = total = 0.0
    for (block, deviation, still), (target, _, _) in zip(
        _blocks(values, fit), _blocks(raw, fit), strict=True
    ):
        slope = np.where(still, 0.0, (block[:fit] * target[:fit]).mean(axis=0))
        slope = slope / np.where(still, 1.0, deviation**2)
        wrong += float(((target[fit:] - block[fit:] * slope) ** 2).sum())
        total += float(((target[fit:] - target[fit:].mean(axis=0)) ** 2).sum())
    return 1 - wrong / total


def _blocks(values: NDArray[Any], fit: int) -> Iterator[tuple[Any, Floats, NDArray[np.bool_]]]:
    """Yield elements centred, their deviation, and which of them stand still. Wide ones stay float32."""
    import numpy as np

    kind = np.float64 if values.shape[1] <= BLOCK else np.float32
    for start in range(0, values.shape[1], BLOCK):
        block: Any = np.array(values[:, start : start + BLOCK], dtype=kind)
        mean = block[:fit].mean(axis=0, dtype=np.float64)
        deviation = block[:fit].std(axis=0, dtype=np.float64)
        block -= mean.astype(kind)
        yield block, deviation, deviation <= STILL * np.abs(mean)


def _radial(gram: Floats, fit: int) -> Iterator[Floats]:
    import numpy as np

    sizes = np.diag(gram)
    distances = np.maximum(sizes[:, None] + sizes[None, :] - 2 * gram, 0)
    middle = float(np.median(distances[:fit, :fit])) or 1.0
    for width in WIDTHS:
        yield np.exp(-width / middle * distances)


def _judged(kernels: list[Floats], targets: Floats, rows: Rows) -> float:
    """Return the held-out R² of the kernel and the strength that did best on ``[train, fit)``."""
    scored = []
    for number, kernel in enumerate(kernels):
        for strength in STRENGTHS:
            found = _r2(kernel, targets, strength, rows.train, rows.fit)
            if found is not None:
                scored.append((found, strength, number))
    # What could be solved with fewer rows may be too nearly singular with all; a strength of 1 never is.
    for _, strength, number in sorted(scored, reverse=True):
        found = _r2(kernels[number], targets, strength, rows.fit, len(targets))
        if found is not None:
            return found
    return 0.0


def _r2(kernel: Floats, targets: Floats, strength: float, known: int, end: int) -> float | None:
    """Return the R² on rows ``[known, end)`` of a decoder fitted on ``[0, known)``; None: it is singular.

    A prediction is a weighted sum of known inputs, so its error needs their inner products alone.
    """
    import numpy as np
    from scipy.linalg import LinAlgError, cho_factor, cho_solve

    seen, new = slice(0, known), slice(known, end)
    try:
        factor = cho_factor(kernel[seen, seen] + strength * np.eye(known))
    except LinAlgError:
        return None
    weights = cho_solve(factor, kernel[seen, new])
    crossed = float((weights * targets[seen, new]).sum())
    squared = float((weights * (targets[seen, seen] @ weights)).sum())
    wrong = float(targets[new, new].trace()) - 2 * crossed + squared
    return 1 - wrong / variance(targets[:end, :end], known)
