"""Measure how well raw inputs can be rebuilt from a network's tensors, for ``isthmus plan --leakage``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isthmus import documents
from isthmus.errors import InvalidInput
from isthmus.frameworks.onnx import leakage
from isthmus.model.leakage import LeakageReport

if TYPE_CHECKING:
    from isthmus.frameworks.onnx.leakage import Cast


def measure_leakage(
    model: Path,
    samples: Path,
    cuts: Sequence[tuple[str, ...]] = (),
    *,
    fit: int = 1000,
    seed: int = 0,
    cast: Cast = "",
    dimensions: Mapping[str, int] | None = None,
) -> LeakageReport:
    """Return the figures of each cut; without cuts, of each tensor that another operator reads.

    ``samples``: a ``.npy`` file of numbers, ``[N, ...]``, as the network takes them. See
    ``frameworks.onnx.leakage.measure`` for the rest, and what it raises.

    Raises:
        InvalidInput: ``samples`` cannot be read as an array of numbers.
    """
    array = _load(samples)
    return leakage.measure(
        model, array, list(cuts) or None, fit=fit, seed=seed, cast=cast, dimensions=dimensions
    )


def read_report(path: Path) -> LeakageReport:
    """Read figures that were written before.

    Raises:
        InvalidInput: the file cannot be read, or is no such document.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from error
    return documents.decode(LeakageReport, raw, str(path))


def _load(path: Path) -> Any:
    import numpy as np

    try:
        # From the file, page by page: samples may be larger than memory; only those drawn are read.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path} cannot be read as an array (.npy): {error}") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu" or array.ndim < 2:
        raise InvalidInput(f"{path} must hold one array of numbers, [samples, ...], as numpy.save writes it")
    return array
