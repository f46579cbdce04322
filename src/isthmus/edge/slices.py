"""A model's slices on this device: read, verified, and run one after the other."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from isthmus import documents
from isthmus.errors import InvalidModel, SignatureInvalid
from isthmus.inference.bundle import open_bundle, verify_signature
from isthmus.inference.engine import OnnxEngine
from isthmus.model.bundle import TensorSpec
from isthmus.model.sliced import MAX_RELATIVE, SlicedModel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from isthmus.ports import Engine

SLICED_FILE = "sliced.json"
PROOF_ROOM = 10
"""Machines round differently: so many times what the proof allowed, or would by itself, here."""

Arrays = Mapping[str, "NDArray[Any]"]


def read_sliced(folder: Path, public_key_der: bytes, model_sha256: str) -> SlicedModel:
    """Read and verify ``sliced.json``: signed by the key's owner, and about the model of that digest.

    Raises:
        InvalidModel: there is none, it is of another model, or its slices do not follow each other.
        InvalidDocument: it does not fit its schema.
        SignatureInvalid: it is not what was signed.
    """
    file = folder / SLICED_FILE
    if not file.is_file():
        raise InvalidModel(f"there is no {SLICED_FILE} in {folder}")
    document = documents.decode(SlicedModel, file.read_bytes(), SLICED_FILE)
    try:
        signature = base64.b64decode(document.signature or "", validate=True)
    except ValueError as error:
        raise SignatureInvalid(f"{SLICED_FILE} has a signature that is no base64") from error
    unsigned = msgspec.structs.replace(document, signature=None)
    verify_signature(documents.encode(unsigned), signature, public_key_der)
    if document.model_sha256 != model_sha256:
        raise InvalidModel(
            f"the slices are of the model {document.model_sha256[:12]}, but {model_sha256[:12]} is in service: "
            "slice that one"
        )
    ends = [0, *(entry.end for entry in document.slices)]
    if not document.slices or [entry.start for entry in document.slices] != ends[:-1]:
        raise InvalidModel(f"the slices in {SLICED_FILE} do not follow each other")
    if any(os.sep in entry.folder or entry.folder in (".", "..") for entry in document.slices):
        raise InvalidModel(f"a slice in {SLICED_FILE} lies outside its folder")
    return document


@dataclass
class Slices:
    """``engines``: of the first slices, of as many as lie on this device, in order."""

    document: SlicedModel
    engines: Sequence[Engine]
    seconds: list[float] = field(default_factory=list)
    """Of one sample, each slice that is here, as it took lately."""

    @property
    def count(self) -> int:
        """Of all slices, here or not."""
        return len(self.document.slices)

    @property
    def whole_here(self) -> bool:
        """Whether all are here, so that a request can be finished from its head's tensors."""
        return len(self.engines) == self.count

    def run(
        self,
        start: int,
        end: int,
        known: Arrays,
        took: Callable[[int, float], None],
        clock: Callable[[], float],
        is_over: Callable[[], bool] = lambda: False,
    ) -> dict[str, NDArray[Any]]:
        """Run slices ``[start, end)`` on what is known by then, and return that with what they made; stop between two
        when ``is_over``. ``took`` hears each slice's seconds.

        Raises:
            InvalidRequest, InvalidModel: as ``ports.Engine``.
        """
        pool = dict(known)
        for number in range(start, end):
            if is_over():
                break
            began = clock()
            pool |= self.engines[number].run(self.inputs_of(number, pool))
            took(number, clock() - began)
        return pool

    def inputs_of(self, number: int, pool: Arrays) -> dict[str, NDArray[Any]]:
        """Return what a slice takes of what is known."""
        return {spec.name: pool[spec.name] for spec in self.document.slices[number].inputs}

    def outputs_of(self, pool: Arrays) -> dict[str, NDArray[Any]]:
        """Return the whole's outputs, in their order."""
        return {spec.name: pool[spec.name] for spec in self.document.outputs}

    def fits(self, inputs: Arrays) -> bool:
        """Whether the slices take a request's sizes: they may be for one batch only."""
        return all(
            spec.name in inputs and fits(spec, tuple(inputs[spec.name].shape))
            for spec in self.document.inputs
        )


def open_slices(folder: Path, public_key_der: bytes, model_sha256: str, *, threads: int) -> Slices:
    """Open the slices of a folder: those that lie in it, up to the first that does not.

    Raises:
        As ``read_sliced`` and ``inference.bundle.open_bundle``.
    """
    document = read_sliced(folder, public_key_der, model_sha256)
    engines = []
    for entry in document.slices:
        if not entry.folder or entry.bundle is None or not (folder / entry.folder).is_dir():
            break
        bundle = open_bundle(folder / entry.folder, public_key_der, sha256=entry.bundle)
        engines.append(OnnxEngine(bundle.model_path, threads=threads))
    if not engines:
        raise InvalidModel(f"{folder} has {SLICED_FILE}, but not the folder of its first slice")
    return Slices(document, engines)


def prove_here(slices: Slices, whole: Engine, clock: Callable[[], float]) -> None:
    """Run slices and the whole on made-up inputs, compare, and learn how long each slice takes.

    Raises:
        InvalidModel: they differ by more than the proof allows with room for another machine's rounding, or in NaN or
            infinities.
    """
    inputs = {spec.name: _made_up(spec, seed) for seed, spec in enumerate(slices.document.inputs)}
    slices.seconds = [0.0] * len(slices.engines)

    def took(number: int, seconds: float) -> None:
        slices.seconds[number] = seconds

    for _ in range(2):  # the first run also makes what later ones find made
        pool = slices.run(0, len(slices.engines), inputs, took, clock)
    if slices.whole_here:
        allowed = PROOF_ROOM * max(slices.document.proof.allowed, MAX_RELATIVE)
        _compare(slices.outputs_of(pool), whole.run(inputs), allowed)


def fits(spec: TensorSpec, shape: tuple[int, ...]) -> bool:
    """Whether a tensor of that shape is what ``spec`` says; -1 takes any size."""
    return len(shape) == len(spec.shape) and all(
        want in (-1, size) for want, size in zip(spec.shape, shape, strict=True)
    )


def _made_up(spec: TensorSpec, seed: int) -> NDArray[Any]:
    import numpy as np

    from isthmus.inference.datatypes import NUMPY

    shape = tuple(1 if size == -1 else size for size in spec.shape)
    dtype = np.dtype(NUMPY[spec.datatype])
    if dtype.kind == "O":
        return np.full(shape, "", dtype)
    found: NDArray[Any] = np.random.default_rng(seed).random(shape).astype(dtype)
    return found


def _compare(made: Arrays, expected: Arrays, allowed: float) -> None:
    import numpy as np

    for name, right in expected.items():
        if right.dtype.kind not in "fiu":
            continue
        a, b = made[name].astype(np.float64), right.astype(np.float64)
        if a.shape != b.shape:
            raise InvalidModel(
                f"the slices give {name!r} as {list(a.shape)}, and the whole as {list(b.shape)}"
            )
        finite = np.isfinite(b)
        if not np.array_equal(a[~finite], b[~finite], equal_nan=True) or not np.isfinite(a[finite]).all():
            raise InvalidModel(f"the slices give {name!r} with other NaN or infinite values than the whole")
        if not finite.any():
            continue
        a, b = a[finite], b[finite]
        off, size = float(np.abs(a - b).max()), max(float(np.ptp(b)), float(np.abs(b).max()))
        room = allowed * size
        if not off <= room:
            raise InvalidModel(
                f"the slices' {name!r} differs from the whole's by {off:.3g}; at most {room:.3g} is allowed"
            )
