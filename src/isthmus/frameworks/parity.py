"""Does an exported model compute what the trained one computes?"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.errors import ParityFailed
from isthmus.frameworks.port import Input, Reference

SEED = 20_220_510
BATCHES = (1, 2, 7)
"""Batch sizes compared when the model leaves it open: one, the least that mixes samples, an odd one."""


@dataclass(frozen=True)
class Parity:
    """The largest relative difference seen, over which batch sizes."""

    difference: float
    tolerance: float
    batches: tuple[int, ...]


def session(model: Path) -> Any:
    """Open a model on the CPU, where results do not depend on the machine's accelerator."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read at import (docs/adr/0012)
    import onnxruntime

    return onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])


def relative_difference(actual: Any, expected: Any) -> float:
    """Return ``max|a-b| / max(1, max|b|)``; infinity for other shapes or a NaN on one side alone."""
    a, b = np.asarray(actual, "float64"), np.asarray(expected, "float64")
    if a.shape != b.shape:
        return math.inf
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    if same.all():
        return 0.0
    if not (np.isfinite(a[~same]).all() and np.isfinite(b[~same]).all()):
        return math.inf
    scale = np.abs(b[np.isfinite(b)]).max(initial=1.0)
    return float(np.abs(a[~same] - b[~same]).max() / scale)


def random_arrays(inputs: Sequence[Input], batch: int | None) -> dict[str, Any]:
    """Return normally distributed inputs (float32), the same in every run.

    ``batch`` replaces the first dimension of every input that shares the first input's.
    """
    random = np.random.default_rng(SEED)
    arrays = {}
    for entry in inputs:
        shape = entry.shape
        if batch is not None and shape[:1] == inputs[0].shape[:1]:
            shape = (batch, *shape[1:])
        arrays[entry.name] = random.standard_normal(shape).astype("float32")
    return arrays


def has_open_batch(engine: Any) -> bool:
    """Whether the first dimension of the first input is for each request to choose."""
    shape = engine.get_inputs()[0].shape
    return bool(shape) and not isinstance(shape[0], int)


def check(reference: Reference, model: Path, tolerance: float) -> Parity:
    """Compare ``model`` with its original on random inputs.

    Raises:
        ParityFailed: an output differs by more than ``tolerance``; the message has the figure.
    """
    engine = session(model)
    sizes: tuple[int, ...] = BATCHES if has_open_batch(engine) else (reference.inputs[0].shape[0],)
    worst = max(_difference(reference, engine, size) for size in sizes)
    if worst > tolerance:
        raise ParityFailed(
            f"the exported {model.name} differs from the trained model by {worst:.2e} relative "
            f"(batch sizes {', '.join(map(str, sizes))}); the job allows {tolerance:.0e}"
        )
    return Parity(worst, tolerance, sizes)


def _difference(reference: Reference, engine: Any, batch: int) -> float:
    arrays = random_arrays(reference.inputs, batch)
    actual, expected = engine.run(None, arrays), reference.run(arrays)
    if len(actual) != len(expected):
        return math.inf
    return max(relative_difference(a, b) for a, b in zip(actual, expected, strict=True))
