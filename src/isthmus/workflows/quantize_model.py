"""Make a candidate's 8-bit variant, measure what it loses, and choose which of the two is served."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from isthmus.errors import InvalidModel, MissingFile
from isthmus.inference.onnx_model import describe_onnx
from isthmus.inference.processing import preprocess
from isthmus.model.bundle import Quantization
from isthmus.model.dataset import Manifest
from isthmus.model.job import Job
from isthmus.ports import BlobStore
from isthmus.workflows.scoring import OpenEngine, load_held_out, score_file

MAX_LOST = 0.005
"""Of accuracy, as a share of the samples: half a point. What loses more is not offered."""
MAX_CALIBRATION = 256
BATCH = 32


def choose_variant(
    candidate: Path, job: Job, dataset: Manifest, *, blobs: BlobStore, open_engine: OpenEngine, workdir: Path
) -> tuple[Path, Quantization]:
    """Return the file to serve, and how the two variants compared.

    A quarter of the held-out split, ``MAX_CALIBRATION`` samples at most, shows the quantiser the ranges; both variants
    are scored on the others, which it has not seen.
    """
    size = candidate.stat().st_size
    try:
        inputs, labels = _held_out(job, dataset, blobs)
        shown, others = split(len(inputs))
    except InvalidModel as error:
        return candidate, Quantization(served=False, reason=str(error), float_size_bytes=size)
    before = Quantization(
        served=False,
        reason="",
        float_accuracy=score_file(candidate, inputs[others], labels[others], job.preprocessing, open_engine),
        samples=len(others),
        calibration_samples=len(shown),
        float_size_bytes=size,
    )
    try:
        quantised = _quantise(candidate, inputs[shown], job, workdir)
        score = score_file(quantised, inputs[others], labels[others], job.preprocessing, open_engine)
    except InvalidModel as error:
        return candidate, msgspec.structs.replace(before, reason=str(error))
    after = _judged(before, score, quantised.stat().st_size)
    return (quantised if after.served else candidate), after


def _held_out(job: Job, dataset: Manifest, blobs: BlobStore) -> tuple[Any, Any]:
    if job.evaluation is None:
        raise InvalidModel("quantization needs an evaluation: it tells whether the accuracy holds")
    try:
        return load_held_out(dataset, job.evaluation, blobs)
    except MissingFile:
        raise InvalidModel(
            "quantization needs the held-out split where models are packaged, and the data's policy keeps it elsewhere"
        ) from None


def _judged(before: Quantization, score: float, size: int) -> Quantization:
    lost = (before.float_accuracy or 0.0) - score
    sentence = f"it loses {lost * 100:.2f} points of accuracy; at most {MAX_LOST * 100:.2f} are allowed"
    # As many samples as are just allowed are a share that binary numbers round.
    holds = lost <= MAX_LOST + 1e-12
    return msgspec.structs.replace(before, served=holds, reason=sentence, accuracy=score, size_bytes=size)


def split(count: int) -> tuple[list[int], list[int]]:
    """Return the indices of samples that the quantiser is shown, evenly spread, and those of the others.

    Raises:
        InvalidModel: too few to do both.
    """
    size = min(MAX_CALIBRATION, count // 4)
    if not size:
        raise InvalidModel(f"quantization needs at least 4 held-out samples, and there are {count}")
    shown = [index * count // size for index in range(size)]
    return shown, sorted(set(range(count)) - set(shown))


def _quantise(candidate: Path, inputs: Any, job: Job, workdir: Path) -> Path:
    # Not at the top: it is the training side's, which few functions have.
    from isthmus.frameworks.onnx.quantize import quantize

    (spec,), _, _ = describe_onnx(candidate)
    out = workdir / "quantised.onnx"
    quantize(candidate, out, _batches(inputs, job, spec.name, fixed=spec.shape[:1] == (1,)), workdir)
    return out


def _batches(inputs: Any, job: Job, name: str, *, fixed: bool) -> Iterator[dict[str, Any]]:
    size = 1 if fixed else BATCH
    for start in range(0, len(inputs), size):
        yield {name: preprocess(inputs[start : start + size], job.preprocessing)}
