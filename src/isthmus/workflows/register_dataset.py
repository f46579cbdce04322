"""Check a manifest and its job, down to each file's bytes, and record them."""

from __future__ import annotations

from datetime import datetime

import msgspec

from isthmus import documents
from isthmus.errors import (
    Conflict,
    DigestMismatch,
    InvalidDocument,
    InvalidJob,
    InvalidManifest,
    MissingFile,
)
from isthmus.model import layout
from isthmus.model.blob import BlobRef
from isthmus.model.dataset import DatasetFile, Manifest
from isthmus.model.job import MAX_QUEUE_SECONDS, Import, Job, Training
from isthmus.model.messages import DEFAULT_PRIORITY, DEFAULT_TEAM
from isthmus.model.units import format_bytes
from isthmus.ports import BlobStore, Records
from isthmus.workflows import keep_ledger
from isthmus.workflows.compose_file import compose_file
from isthmus.workflows.in_place import check_policy
from isthmus.workflows.loading import load_own_policy
from isthmus.workflows.start_pipeline import manifest_job_key, version_digest

MAX_FILES = 20_000
MAX_FUNCTION_NAME_CHARACTERS = 64


class Registered(msgspec.Struct, frozen=True):
    """What the rest of the pipeline needs to choose its way; the documents stay in the bucket."""

    model: str
    dataset: str
    kind: str
    files: int
    size_bytes: int


def register_dataset(
    manifest_key: str,
    job_key: str,
    *,
    stack: str,
    bucket_zone: str,
    blobs: BlobStore,
    records: Records,
    now: str,
) -> Registered:
    """Validate the manifest at ``manifest_key`` and record the dataset version and the job.

    ``bucket_zone`` is where the bucket lies, as a data policy names it. Of files that are read in place, none is
    looked for here: the rig that reads them checks them.

    Raises:
        InvalidManifest, InvalidJob: a document is malformed.
        MissingFile: a file is not there (yet); the message names it.
        DigestMismatch: a file's bytes are not what the manifest promises; the message names it.
        PolicyViolation: the dataset's policy does not let its files lie where they do.
    """
    manifest = _read_manifest(manifest_key, job_key, blobs)
    check_policy(manifest, load_own_policy(records, manifest.dataset), bucket_zone)
    job = _read_job(manifest, blobs)
    if manifest.in_place is msgspec.UNSET:
        _check_files(manifest, blobs)
    _check_job(job, manifest, blobs)
    _check_name(stack, job.model)
    blobs.put(layout.registered_manifest(job_key), documents.encode(manifest))
    # A rig reads this document and refuses fields that its version does not know; who waits is no
    # business of a training, so team and priority stand in the job's record instead.
    plain = msgspec.structs.replace(job, team=msgspec.UNSET, priority=msgspec.UNSET)
    blobs.put(layout.registered_job(job_key), documents.encode(plain))
    size = sum(file.size_bytes for file in manifest.files)
    _record(manifest, job, job_key, manifest_key, size, records, now)
    kind = "import" if isinstance(job.source, Import) else "training"
    if kind == "import":
        whose = keep_ledger.Whose(model=job.model, team=team_of(job))
        keep_ledger.open_import(job_key, whose, now=datetime.fromisoformat(now).timestamp(), records=records)
    return Registered(job.model, manifest.dataset, kind, len(manifest.files), size)


def team_of(job: Job) -> str:
    """Return who waits for a job."""
    return DEFAULT_TEAM if job.team is msgspec.UNSET else job.team


def priority_of(job: Job) -> int:
    """Return its place among its team's work."""
    return DEFAULT_PRIORITY if job.priority is msgspec.UNSET else job.priority


def file_key(manifest: Manifest, file: DatasetFile) -> str:
    """Return the bucket key of a dataset's file."""
    return layout.dataset_folder(manifest.dataset) + (file.key or layout.blob_path(file.sha256))


def _read_manifest(manifest_key: str, job_key: str, blobs: BlobStore) -> Manifest:
    raw = blobs.get(manifest_key, max_bytes=documents.MAX_DOCUMENT_BYTES)
    try:
        manifest = documents.decode(Manifest, raw, manifest_key)
    except InvalidDocument as error:
        raise InvalidManifest(str(error)) from error
    folder = layout.dataset_folder(manifest.dataset)
    if not manifest_key.startswith(folder):
        raise InvalidManifest(
            f"{manifest_key} is the manifest of {manifest.dataset}; it must lie below {folder}manifests/"
        )
    if manifest_job_key(manifest) != job_key:
        raise InvalidManifest(
            f"{manifest_key} was overwritten after it was uploaded; upload it under a new name"
        )
    _check_in_place(manifest, manifest_key)
    if len(manifest.files) > MAX_FILES:
        raise InvalidManifest(
            f"{manifest_key} names {len(manifest.files)} files; at most {MAX_FILES} are taken: pack them into archives"
        )
    # `a` and `training/a` are the same file to a training script: the channel is the first folder.
    paths = [file.path if "/" in file.path else f"{file.channel}/{file.path}" for file in manifest.files]
    if len(set(paths)) < len(paths):
        twice = next(path for path in paths if paths.count(path) > 1)
        raise InvalidManifest(f"{manifest_key} names {twice} more than once")
    return manifest


def _check_in_place(manifest: Manifest, manifest_key: str) -> None:
    keyed = next((file.path for file in manifest.files if file.key is not None), None)
    if manifest.in_place is not msgspec.UNSET and keyed is not None:
        raise InvalidManifest(
            f"{manifest_key} says that its files lie in {manifest.in_place.zone}, and gives {keyed} a key of the "
            "bucket: leave the key out"
        )


def _read_job(manifest: Manifest, blobs: BlobStore) -> Job:
    raw = blobs.get(manifest.job.key, max_bytes=documents.MAX_DOCUMENT_BYTES)
    if documents.sha256(raw) != manifest.job.sha256:
        raise DigestMismatch(f"{manifest.job.key}: the job is not the one that the manifest names")
    try:
        return documents.decode(Job, raw, manifest.job.key)
    except InvalidDocument as error:
        raise InvalidJob(str(error)) from error


def _check_files(manifest: Manifest, blobs: BlobStore) -> None:
    for file in manifest.files:
        key = file_key(manifest, file)
        try:
            _check_blob(file.path, key, file.sha256, file.size_bytes, blobs)
        except MissingFile:
            # Sent as what changed, perhaps: then its digest is checked as it is put together.
            if file.key is not None or not compose_file(manifest.dataset, file.sha256, blobs):
                raise


def _check_blob(what: str, key: str, sha256: str, size_bytes: int, blobs: BlobStore) -> None:
    info = blobs.info(key)
    if info is None:
        raise MissingFile(f"{what} is named by the manifest, but {key} is not in the bucket")
    if info.size_bytes != size_bytes:
        raise DigestMismatch(
            f"{what} has {format_bytes(info.size_bytes)} ({info.size_bytes} bytes) in the bucket; "
            f"the manifest says {size_bytes} bytes"
        )
    found = info.sha256 or blobs.sha256(key)
    if found != sha256:
        raise DigestMismatch(f"{what} has the SHA-256 {found} in the bucket; the manifest says {sha256}")


def _check_job(job: Job, manifest: Manifest, blobs: BlobStore) -> None:
    source = job.source
    blob: BlobRef = source.code if isinstance(source, Training) else source.artifact
    _check_blob(
        "the job's code" if isinstance(source, Training) else "the model",
        blob.key,
        blob.sha256,
        blob.size_bytes,
        blobs,
    )
    if isinstance(source, Training):
        if not manifest.files:
            raise InvalidJob(f"the job trains {job.model}, but its manifest names no files")
        _check_seconds(source)
        if job.evaluation is None:
            raise InvalidJob(
                f"the job trains {job.model} and must say how it is judged: give it an `evaluation`"
            )
    elif manifest.in_place is not msgspec.UNSET:
        raise InvalidJob(
            f"needs a job that trains where the data are; this one imports {job.model}, which no rig judges"
        )
    if job.evaluation is not None:
        paths = {file.path for file in manifest.files}
        for held_out in (job.evaluation.inputs, job.evaluation.labels):
            if held_out.path not in paths:
                raise InvalidJob(f"the evaluation reads {held_out.path}, which the manifest does not name")


def _check_seconds(training: Training) -> None:
    if training.offline_tolerance_seconds >= training.deadline_seconds:
        raise InvalidJob(
            f"offline_tolerance_seconds ({training.offline_tolerance_seconds}) must be less than "
            f"deadline_seconds ({training.deadline_seconds})"
        )
    if training.queue_deadline_seconds > MAX_QUEUE_SECONDS:
        raise InvalidJob(
            f"queue_deadline_seconds ({training.queue_deadline_seconds}) must be at most "
            f"{MAX_QUEUE_SECONDS} (14 days): a rig's queue keeps no message longer"
        )


def _check_name(stack: str, model: str) -> None:
    """Before anything is trained: a model's function must be nameable."""
    name = layout.function_name(stack, model)
    if len(name) > MAX_FUNCTION_NAME_CHARACTERS:
        raise InvalidJob(
            f"the function {name} would have {len(name)} characters; Lambda takes at most "
            f"{MAX_FUNCTION_NAME_CHARACTERS}: shorten the model's name or the stack's"
        )


def _record(
    manifest: Manifest, job: Job, job_key: str, manifest_key: str, size: int, records: Records, now: str
) -> None:
    version = {
        "manifest_key": manifest_key,
        "files": len(manifest.files),
        "size_bytes": size,
        "registered_at": now,
    }
    sk = f"VERSION#{version_digest(manifest)}"
    records.create({"pk": layout.dataset_pk(manifest.dataset), "sk": sk, **version})
    pk, state = (
        layout.job_pk(job_key),
        {
            "state": "REGISTERED",
            "model": job.model,
            "dataset": manifest.dataset,
            "team": team_of(job),
            "priority": priority_of(job),
        },
    )
    try:
        records.update(pk, layout.STATE, {**state, "started_at": now}, expect={"started_at": None})
    except Conflict:
        # A bundle's digest covers the time of the first start: registering again does not change it.
        records.update(pk, layout.STATE, state)
