"""What an answered request comes to as a result: labels and confidences, or a few numbers; never its inputs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

import msgspec

from isthmus.model.processing import Softmax, TopK
from isthmus.model.results import Answered, Prediction, Result, Way

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from isthmus.model.bundle import BundleManifest

MOST_PRIORITY = 9
WAYS: tuple[Way, ...] = get_args(Way)


@dataclass(frozen=True)
class Made:
    """A request's outputs as the model gave them. ``way``: the placement that the engine told, such as ``split:2``;
    empty where there was no choice. ``at_ms``: milliseconds since 1970."""

    manifest: BundleManifest
    outputs: Mapping[str, NDArray[Any]]
    way: str
    at_ms: int
    latency_ms: float

    @property
    def size_bytes(self) -> int:
        """What it holds of memory."""
        return sum(int(array.nbytes) for array in self.outputs.values())


def result_of(made: Made) -> Result:
    """Return the result of an answered request.

    What a model was least sure of is kept longest, where the outbox drops by priority.
    """
    way = made.way.partition(":")[0]
    answered = Answered(
        way=next((known for known in WAYS if known == way), "local"),
        latency_ms=round(made.latency_ms, 3),
        predictions=predictions(made.manifest, made.outputs),
    )
    if not answered.predictions:
        answered = msgspec.structs.replace(answered, values=_values(made.outputs))
    sure = min(
        (entry.confidence for entry in answered.predictions if entry.confidence is not None), default=1
    )
    return Result(
        model=made.manifest.model,
        release=made.manifest.release,
        at_ms=made.at_ms,
        outputs=msgspec.Raw(msgspec.json.encode(answered)),
        priority=min(MOST_PRIORITY, max(0, int((MOST_PRIORITY + 1) * (1 - sure)))),
    )


def predictions(manifest: BundleManifest, outputs: Mapping[str, NDArray[Any]]) -> tuple[Prediction, ...]:
    """Return the decision on each sample, if the model's first output is scores ``[N, C]``; else none.

    A confidence takes the bundle's own softmax: what other scores mean is not known.
    """
    import numpy as np

    from isthmus.inference.processing import softmax

    scores = outputs[manifest.outputs[0].name]
    if scores.ndim != 2 or scores.shape[1] < 2 or scores.dtype.kind != "f" or not np.isfinite(scores).all():
        return ()
    chosen = scores.argmax(axis=1)
    sure: list[float | None] = [None] * len(scores)
    if any(isinstance(step, Softmax) for step in manifest.postprocessing):
        sure = [round(float(value), 6) for value in softmax(scores).max(axis=1)]
    labels = next((step.labels for step in manifest.postprocessing if isinstance(step, TopK)), ())
    return tuple(
        Prediction(index=int(index), label=labels[index] if index < len(labels) else None, confidence=each)
        for index, each in zip(chosen, sure, strict=True)
    )


def _values(outputs: Mapping[str, NDArray[Any]]) -> dict[str, list[float | None]]:
    return {
        name: [value if math.isfinite(value) else None for value in array.astype(float).ravel().tolist()]
        for name, array in outputs.items()
        if array.dtype.kind in "biuf"
    }
