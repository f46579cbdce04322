"""A sliced model as a folder: the bundles, the plan, the key, and ``sliced.json``, which is written last."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from isthmus import documents
from isthmus.errors import EnvironmentProblem, InvalidDocument, SignatureInvalid
from isthmus.inference.bundle import verify_signature
from isthmus.model.sliced import CALLER, SlicedModel
from isthmus.model.slicing import SlicePlan
from isthmus.ports import Signer
from isthmus.workflows.plan_slices import load_plan

SLICED_FILE = "sliced.json"
PLAN_FILE = "plan.json"
KEY_FILE = "public_key.der"
SCRATCH = ".slicing-"


def signed(document: SlicedModel, signer: Signer) -> SlicedModel:
    """Return the document with the signature (base64 of DER, ECDSA P-256 over SHA-256) of its canonical form
    without one."""
    digest = hashlib.sha256(documents.encode(msgspec.structs.replace(document, signature=None))).digest()
    return msgspec.structs.replace(document, signature=base64.b64encode(signer.sign(digest)).decode())


def verify_sliced(document: SlicedModel, public_key_der: bytes) -> None:
    """Check the document's signature.

    Raises:
        SignatureInvalid: it has none, or that of something else.
    """
    try:
        signature = base64.b64decode(document.signature or "", validate=True)
    except ValueError as error:
        raise SignatureInvalid(f"{SLICED_FILE} has a signature that is no base64") from error
    verify_signature(
        documents.encode(msgspec.structs.replace(document, signature=None)), signature, public_key_der
    )


@contextmanager
def scratch_folder(folder: Path) -> Iterator[Path]:
    """Make ``folder`` if need be, and give a folder within it that is gone afterwards.

    Raises:
        EnvironmentProblem: it cannot be made, or holds what is no sliced model.
    """
    try:
        folder.mkdir(exist_ok=True)
        holds = [path.name for path in folder.iterdir() if not path.name.startswith(SCRATCH)]
    except OSError as error:
        raise EnvironmentProblem(f"{folder} cannot be written: {error.strerror}") from error
    if holds and SLICED_FILE not in holds:
        raise EnvironmentProblem(
            f"{folder} holds {sorted(holds)[0]} and no {SLICED_FILE}: name a folder that is new, empty, or of an "
            "earlier slicing"
        )
    with tempfile.TemporaryDirectory(dir=folder, prefix=SCRATCH) as scratch:
        yield Path(scratch)


def commit(folder: Path, scratch: Path, document: SlicedModel, plan: SlicePlan, public_key: bytes) -> None:
    """Put the bundles of ``scratch`` in their places, then the documents; then remove what was there before."""
    before = _folders(folder)
    for entry in document.slices:
        if not (folder / entry.folder).exists():
            (scratch / entry.name).rename(folder / entry.folder)
    for name, content in ((PLAN_FILE, documents.encode(plan)), (KEY_FILE, public_key)):
        _replace(folder / name, scratch / name, content)
    # The commit point: until here the folder is what it was, with files beside it that nothing names.
    _replace(folder / SLICED_FILE, scratch / SLICED_FILE, documents.encode(document))
    for name in before - {entry.folder for entry in document.slices}:
        shutil.rmtree(folder / name, ignore_errors=True)


def _folders(folder: Path) -> set[str]:
    if not (folder / SLICED_FILE).is_file():
        return set()
    document, _ = load_sliced(folder)
    return {entry.folder for entry in document.slices if entry.folder}


def _replace(path: Path, temporary: Path, content: bytes) -> None:
    temporary.write_bytes(content)
    os.replace(temporary, path)


def load_sliced(path: Path) -> tuple[SlicedModel, SlicePlan | None]:
    """Read a sliced model's folder, or its ``sliced.json``, and the plan where it lies beside it.

    Raises:
        InvalidDocument: it cannot be read, does not fit its schema, or contradicts itself.
    """
    file = path / SLICED_FILE if path.is_dir() else path
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise InvalidDocument(f"{file} cannot be read: {error.strerror}") from error
    document = documents.decode(SlicedModel, raw, str(file))
    if problem := _contradiction(document):
        raise InvalidDocument(f"{file} cannot be used: {problem}")
    beside = file.with_name(PLAN_FILE)
    if not beside.is_file():
        return document, None
    plan = load_plan(beside.read_bytes(), str(beside))
    return document, plan if documents.digest(plan) == document.plan_sha256 else None


def _contradiction(document: SlicedModel) -> str:
    ends = [0, *(entry.end for entry in document.slices)]
    if not document.slices or [entry.start for entry in document.slices] != ends[:-1]:
        return "its slices do not follow each other"
    if any(entry.start >= entry.end or not entry.places for entry in document.slices):
        return "a slice has no operators, or no device"
    if any(os.sep in entry.folder or entry.folder in (".", "..") for entry in document.slices):
        return "a slice lies outside its folder"
    count = len(document.slices)
    for sent in document.transfers:
        if not (CALLER <= sent.source < count and CALLER <= sent.target < count):
            return f"a transfer goes from slice {sent.source} to {sent.target}; there are {count}"
    return ""
