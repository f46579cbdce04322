"""A manifest arrived: start its pipeline, once."""

from __future__ import annotations

import msgspec

from isthmus import documents
from isthmus.errors import InvalidInput, LimitExceeded
from isthmus.model import layout
from isthmus.model.dataset import Manifest
from isthmus.ports import BlobStore, Executions


class Started(msgspec.Struct, frozen=True):
    """``job_key`` names the execution; ``new`` is False when it already ran or runs."""

    job_key: str
    new: bool


def start_pipeline(
    manifest_key: str, *, submitted_at: str = "", blobs: BlobStore, executions: Executions, machine: str
) -> Started:
    """Start the execution that the manifest at ``manifest_key`` asks for.

    ``submitted_at`` is when it was committed (ISO 8601). It goes into the execution's input, where each
    attempt, redrive and retry of the job finds the same; only who starts first can set it.

    A manifest that cannot be read still gets an execution, named by its bytes (too large: by its
    key): it fails there, in its first step, where people look for failures.
    """
    try:
        key = key_of(blobs.get(manifest_key, max_bytes=documents.MAX_DOCUMENT_BYTES))
    except LimitExceeded:
        key = documents.sha256(manifest_key.encode())[:40]
    payload = {"manifest_key": manifest_key, "job_key": key, "submitted_at": submitted_at}
    new = executions.start(machine, key, payload)
    return Started(key, new)


def key_of(raw: bytes) -> str:
    """Return the job key of a manifest's bytes."""
    try:
        manifest = documents.decode(Manifest, raw, "manifest")
    except InvalidInput:
        return documents.sha256(raw)[:40]
    return manifest_job_key(manifest)


def manifest_job_key(manifest: Manifest) -> str:
    """Return the job key: of the dataset version alone, and of the job."""
    return layout.job_key(version_digest(manifest), manifest.job.sha256)


def version_digest(manifest: Manifest) -> str:
    """Return the digest of a dataset version: its name and its files, in any order, without the job.

    Where files lie that are read in place is part of it: what moved is another version, and may be pushed again.
    """
    files = sorted((file.path, file.sha256, file.size_bytes) for file in manifest.files)
    version: dict[str, object] = {"dataset": manifest.dataset, "files": files}
    if manifest.in_place is not msgspec.UNSET:
        version["in_place"] = msgspec.to_builtins(manifest.in_place)
    return documents.digest(version)
