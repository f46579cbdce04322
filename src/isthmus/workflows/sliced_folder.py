"""A sliced model as a folder: the bundles, the plan, the key, and ``sliced.json``, which is written last.

All but ``sliced.json`` are named by their digests, so that what a slicing writes beside an earlier one replaces
nothing of that until ``sliced.json`` is there.
"""

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
from isthmus.workflows.seal_slices import DIGEST_SHOWN

SLICED_FILE = "sliced.json"
PLAN, KEY = ("plan", ".json"), ("public_key", ".der")
"""How the names of the plan and of the key begin and end; a part of the digest stands between."""
SCRATCH = ".slicing-"


def plan_file(folder: Path, document: SlicedModel) -> Path:
    """Return where the plan of these slices lies."""
    return folder / _named(PLAN, document.plan_sha256)


def key_file(folder: Path, document: SlicedModel) -> Path:
    """Return where the public key (DER) of who signed these slices lies."""
    return folder / _named(KEY, document.public_key_sha256 or "")


def _named(ends: tuple[str, str], digest: str) -> str:
    first, last = ends
    return f"{first}-{digest[:DIGEST_SHOWN]}{last}" if digest else first + last


def signed(document: SlicedModel, signer: Signer) -> SlicedModel:
    """Return the document with the digest of the signer's key, and the signature (base64 of DER, ECDSA P-256 over
    SHA-256) of its canonical form without one."""
    document = msgspec.structs.replace(document, public_key_sha256=documents.sha256(signer.public_key()))
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
    before = _beside(folder, load_sliced(folder)[0]) if (folder / SLICED_FILE).is_file() else set()
    for entry in document.slices:
        if not (folder / entry.folder).exists():
            (scratch / entry.name).rename(folder / entry.folder)
    contents = {plan_file(folder, document): documents.encode(plan), key_file(folder, document): public_key}
    for path, content in contents.items():
        _replace(path, scratch / path.name, content)
    # The commit point: until here the folder is what it was, with files beside it that nothing names.
    _replace(folder / SLICED_FILE, scratch / SLICED_FILE, documents.encode(document))
    for path in before - _beside(folder, document):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _beside(folder: Path, document: SlicedModel) -> set[Path]:
    """Return what lies beside a document and is its own."""
    bundles = {folder / entry.folder for entry in document.slices if entry.folder}
    return bundles | {plan_file(folder, document), key_file(folder, document)}


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
    beside = plan_file(file.parent, document)
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
