"""Serve one slice of a model: take what it needs, run it, hand on what comes after it, and bring the answer back.

Slices form a chain: who asks knows the first, each knows the next. A question goes down the chain with every
tensor that is still needed, and its answer comes back the same way; outputs that an earlier slice made are put in
there. While one slice runs a question, the next one runs the question before.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isthmus.errors import (
    DeadlineExceeded,
    InvalidCase,
    InvalidInput,
    InvalidModel,
    InvalidRequest,
    IsthmusError,
)
from isthmus.inference.bundle import open_bundle
from isthmus.inference.engine import OnnxEngine
from isthmus.model.sliced import Cast, SlicedModel
from isthmus.transport.pipelined import Pipelined
from isthmus.workflows.sliced_folder import key_file, load_sliced, verify_sliced

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from isthmus.ports import Engine

    Arrays = dict[str, NDArray[Any]]

BACK_SHARE = 0.05
"""Of the time that is left, what an answer may need for its way back: so the slice that is late is named."""


@dataclass(frozen=True)
class SliceWork:
    """A slice that can be run. ``takes``: the tensors that it reads; ``hands_on``: what the next slice is given,
    raw inputs too; ``gives``: which of the whole's outputs are known here first; ``cast``: what 32-bit floating point
    is handed on as."""

    number: int
    count: int
    name: str
    engine: Engine
    takes: tuple[str, ...]
    hands_on: tuple[str, ...]
    gives: tuple[str, ...]
    cast: Cast = ""

    @property
    def is_last(self) -> bool:
        """Whether its outputs are the whole's."""
        return self.number == self.count - 1


def open_slice(folder: Path, number: int, *, threads: int = 1, public_key: bytes | None = None) -> SliceWork:
    """Verify a sliced model's folder and open one of its slices. ``public_key``: of who sliced it (DER); by
    default the key that lies beside the slices, which shows that nothing is broken, and not who made them.

    Raises:
        InvalidDocument, SignatureInvalid, DigestMismatch: the folder is not what was signed.
        InvalidInput: there is no such slice.
        InvalidCase: the raw inputs would be cast on their way, which the proof did not do.
        InvalidModel: the slice's bundle is not there, or onnxruntime refuses it.
    """
    document, _ = load_sliced(folder)
    if public_key is None:
        beside = key_file(folder, document)
        if not beside.is_file():
            raise InvalidInput(f"{folder} has no {beside.name}: name the public key of who sliced the model")
        public_key = beside.read_bytes()
    verify_sliced(document, public_key)
    if not 0 <= number < len(document.slices):
        raise InvalidInput(
            f"there is no slice {number} of {document.name}; it has 0 to {len(document.slices) - 1}"
        )
    entry = document.slices[number]
    if entry.bundle is None or not entry.folder or not (folder / entry.folder).is_dir():
        raise InvalidModel(f"{folder} does not hold the bundle of slice {number}: copy {entry.name} there")
    bundle = open_bundle(folder / entry.folder, public_key, sha256=entry.bundle)
    engine = OnnxEngine(bundle.model_path, threads=threads)
    engine.load()
    return work_of(document, number, engine)


def work_of(document: SlicedModel, number: int, engine: Engine) -> SliceWork:
    """Return what a slice has to do with what.

    Raises:
        InvalidCase: as ``open_slice``.
    """
    entry, hands_on = document.slices[number], document.crossing(number + 1)
    raw = sorted(document.castable_inputs & set(hands_on))
    if document.cast and raw:
        raise InvalidCase(
            f"slice {number} of {document.name} would hand on the raw input {raw[0]} as {document.cast}, and the proof "
            "was made without that: slice it with --cast none"
        )
    made = {spec.name for spec in entry.outputs}
    if number == 0:
        # What the model gives as it was given is made by nobody: it is known where the question comes in.
        made |= {spec.name for spec in document.inputs}
    return SliceWork(
        number=number,
        count=len(document.slices),
        name=entry.name,
        engine=engine,
        takes=tuple(spec.name for spec in entry.inputs),
        hands_on=hands_on,
        gives=tuple(spec.name for spec in document.outputs if spec.name in made),
        cast=document.cast,
    )


@dataclass(frozen=True)
class Chained:
    """A slice that runs here, and what follows it elsewhere. ``following``: asks the next slice; None at the last one.

    At the first slice it is the whole model: who has the raw inputs runs their head, and asks for the rest.
    """

    work: SliceWork
    following: Pipelined | None = None

    def __post_init__(self) -> None:
        if self.work.is_last == (self.following is not None):
            what = (
                "the last one: it hands on to nobody"
                if self.work.is_last
                else "not the last one: it needs a next"
            )
            raise InvalidInput(f"slice {self.work.number} of {self.work.count} is {what}")

    def ask(self, tensors: Arrays, *, deadline: float) -> Future[Arrays]:
        """Run the slice now, and return the whole's outputs to come, those that were made before it left out.

        The future raises as ``run`` and ``Pipelined.ask`` say.
        """
        answer: Future[Arrays] = Future()
        work = self.work
        try:
            known = tensors | run(work, tensors, deadline)
            own = _pick(known, work.gives, f"the answer of slice {work.number} ({work.name})")
            if self.following is None:
                answer.set_result(own)
                return answer
            handed = _pick(known, work.hands_on, f"what follows slice {work.number} ({work.name})")
        except IsthmusError as error:
            answer.set_exception(error)
            return answer
        left = max(0.0, deadline - time.monotonic())
        asked = self.following.ask(handed, deadline=deadline - BACK_SHARE * left)
        asked.add_done_callback(partial(_join, answer, own))
        return answer


def _join(answer: Future[Arrays], own: Arrays, asked: Future[Arrays]) -> None:
    if not answer.set_running_or_notify_cancel():
        return  # who asked does not want it any more
    error = asked.exception()
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(asked.result() | own)


def run(work: SliceWork, tensors: Arrays, deadline: float) -> Arrays:
    """Run a slice on a question.

    Raises:
        InvalidRequest: it lacks a tensor, or the model refuses the values.
        InvalidModel: the model fails.
        DeadlineExceeded: nobody waits for the answer any more.
    """
    where = f"slice {work.number} ({work.name})"
    if time.monotonic() >= deadline:
        raise DeadlineExceeded(f"the question reached {where} too late")
    inputs = _pick(tensors, work.takes, where)
    try:
        return work.engine.run(inputs)
    except IsthmusError:
        raise
    except Exception as error:
        # One question must not end the worker that others wait for.
        raise InvalidModel(f"{where} failed: {type(error).__name__}: {error}") from error


def _pick(tensors: Arrays, names: Sequence[str], who: str) -> Arrays:
    if missing := [name for name in names if name not in tensors]:
        there = ", ".join(sorted(tensors)) or "nothing"
        raise InvalidRequest(f"{who} needs {missing[0]!r}; there is {there}")
    return {name: tensors[name] for name in names}
