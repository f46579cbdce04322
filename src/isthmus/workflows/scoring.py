"""How good is a model on the held-out split: raw files in, one number out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from isthmus import documents
from isthmus.errors import DigestMismatch, InvalidInput, InvalidModel
from isthmus.inference.onnx_model import describe_onnx
from isthmus.inference.processing import decode_raw, preprocess, softmax
from isthmus.model.dataset import Manifest
from isthmus.model.drift import AnswerBaseline, describe_answers
from isthmus.model.job import Evaluation, HeldOut
from isthmus.model.judgement import Scores
from isthmus.model.processing import PostStep, PreStep, Softmax
from isthmus.model.units import GIB
from isthmus.ports import BlobStore, Engine
from isthmus.workflows.register_dataset import file_key

MAX_HELD_OUT_BYTES = GIB
BATCH = 256

OpenEngine = Callable[[Path], Engine]
Model = tuple[Path, Sequence[PreStep]]
"""An ONNX file, and what is done to a batch before it."""


def load_held_out(manifest: Manifest, evaluation: Evaluation, blobs: BlobStore) -> tuple[Any, Any]:
    """Return the raw inputs ``[N, ...]`` and the integer labels ``[N]`` of a held-out split in the bucket."""

    def read(path: str) -> bytes:
        file = next(file for file in manifest.files if file.path == path)
        data = blobs.get(file_key(manifest, file), max_bytes=MAX_HELD_OUT_BYTES)
        if documents.sha256(data) != file.sha256:
            raise DigestMismatch(f"{file.path} was overwritten after the dataset was registered")
        return data

    return read_held_out(evaluation, read)


def read_held_out(evaluation: Evaluation, read: Callable[[str], bytes]) -> tuple[Any, Any]:
    """Return the raw inputs ``[N, ...]`` and the integer labels ``[N]``; ``read`` gives a file by its path.

    Raises:
        InvalidInput: the files do not hold what the evaluation says.
    """
    inputs, labels = (_decoded(held_out, read) for held_out in (evaluation.inputs, evaluation.labels))
    if len(inputs) != labels.size:
        raise InvalidInput(
            f"{evaluation.inputs.path} has {len(inputs)} samples and {evaluation.labels.path} {labels.size} labels"
        )
    if not len(inputs):
        raise InvalidInput(f"{evaluation.inputs.path} holds no samples to evaluate on")
    return inputs, labels.reshape(-1).astype("int64")


def accuracy(
    engine: Engine,
    input_name: str,
    inputs: Any,
    labels: Any,
    steps: Sequence[PreStep],
    *,
    batch_size: int = BATCH,
) -> float:
    """Return the share of samples whose largest output is their label (first output ``[N, C]``)."""
    right = 0
    for start in range(0, len(inputs), batch_size):
        batch = preprocess(inputs[start : start + batch_size], steps)
        scores = next(iter(engine.run({input_name: batch}).values()))
        if scores.ndim != 2:
            raise InvalidModel(
                f"accuracy needs an output of [N, classes]; the model gives {list(scores.shape)}"
            )
        right += int((scores.argmax(axis=1) == labels[start : start + batch_size]).sum())
    return right / len(inputs)


def score_file(
    path: Path, inputs: Any, labels: Any, steps: Sequence[PreStep], open_engine: OpenEngine
) -> float:
    """Return the accuracy of the ONNX model at ``path``.

    Raises:
        InvalidModel: it has more than one input.
    """
    specs, _, _ = describe_onnx(path)
    if len(specs) != 1:
        names = ", ".join(spec.name for spec in specs)
        raise InvalidModel(f"the metric accuracy needs a model with one input; this one has {names}")
    fixed = specs[0].shape[:1] == (1,)
    size = 1 if fixed else BATCH
    return accuracy(open_engine(path), specs[0].name, inputs, labels, steps, batch_size=size)


def answers_of(
    path: Path,
    inputs: Any,
    steps: Sequence[PreStep],
    after: Sequence[PostStep],
    open_engine: OpenEngine,
) -> AnswerBaseline | None:
    """Return how the ONNX model at ``path``, a classifier with one input, answers raw inputs ``[N, ...]``."""
    specs, _, _ = describe_onnx(path)
    size = 1 if specs[0].shape[:1] == (1,) else BATCH
    engine, chosen, sure = open_engine(path), [], []
    for start in range(0, len(inputs), size):
        batch = preprocess(inputs[start : start + size], steps)
        scores = next(iter(engine.run({specs[0].name: batch}).values()))
        chosen += scores.argmax(axis=1).tolist()
        if any(isinstance(step, Softmax) for step in after):
            sure += softmax(scores).max(axis=1).tolist()
    return describe_answers(chosen, sure)


def score_both(
    inputs: Any, labels: Any, candidate: Model, champion: Model | None, open_engine: OpenEngine
) -> Scores:
    """Return the accuracies of both on the same samples; a champion that does not take them has none.

    Raises:
        InvalidInput, InvalidModel: the candidate does not take them.
    """
    found = Scores(candidate=score_file(candidate[0], inputs, labels, candidate[1], open_engine))
    if champion is None:
        return found
    try:
        best = score_file(champion[0], inputs, labels, champion[1], open_engine)
    except InvalidInput as error:
        # The data changed its form: only the minimum can be asked of the first model for it.
        return msgspec.structs.replace(found, incomparable=str(error))
    return msgspec.structs.replace(found, champion=best)


def _decoded(held_out: HeldOut, read: Callable[[str], bytes]) -> Any:
    return decode_raw(read(held_out.path), held_out.decode, held_out.path)
