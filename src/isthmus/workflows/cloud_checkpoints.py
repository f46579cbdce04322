"""A job's checkpoints, between a rig's form (files by digest, committed by a manifest) and SageMaker's (plain files).

SageMaker copies the plain files into a container before the training and out of it while it runs (developer guide, "Use
checkpoints in Amazon SageMaker AI"). A rig goes on from the committed ones alone. So those are laid out as plain files
before a training on SageMaker, and what it left is committed after one that did not end well.
"""

from __future__ import annotations

from isthmus import documents
from isthmus.errors import AttemptLost, Conflict, IsthmusError
from isthmus.model import layout
from isthmus.model.checkpoint import Checkpoint, CheckpointFile
from isthmus.ports import BlobStore, Item, Records


def lay_out(job_key: str, fencing: int, blobs: BlobStore, records: Records) -> None:
    """Make the plain files what the job's newest checkpoint has. What differs is written, what it lacks is removed.

    Raises:
        AttemptLost: a later attempt has the checkpoints.
    """
    newest = _claim(job_key, fencing, blobs, records)
    home = layout.cloud_checkpoints(job_key)
    wanted = {f"{home}{file.path}": file.sha256 for file in newest.files} if newest else {}
    for there in [*blobs.keys(home)]:
        if there.key not in wanted:
            blobs.delete(there.key)
    for key, sha256 in wanted.items():
        if blobs.info(key) is None or blobs.sha256(key) != sha256:
            source = layout.checkpoint_blob(job_key, sha256)
            blobs.compose(key, blobs.pieces(source), sha256=sha256)


def commit(job_key: str, fencing: int, blobs: BlobStore, records: Records) -> int:
    """Commit what an attempt's plain files are, so that any device goes on from there; return how many there are.

    Raises:
        AttemptLost: a later attempt has the checkpoints.
    """
    home, item = layout.cloud_checkpoints(job_key), _item(job_key, records)
    last = _read(job_key, item, blobs)
    there = {file.sha256 for file in last.files} if last else set()
    files = []
    for info in blobs.keys(home):
        sha256 = blobs.sha256(info.key)
        files.append(
            CheckpointFile(path=info.key.removeprefix(home), sha256=sha256, size_bytes=info.size_bytes)
        )
        if sha256 not in there:
            blobs.compose(layout.checkpoint_blob(job_key, sha256), blobs.pieces(info.key), sha256=sha256)
    files.sort(key=lambda file: file.path)
    if not files or (last is not None and last.files == tuple(files)):
        return len(files)
    number = int(item.get("generation", 0)) + 1
    made = Checkpoint(job_key=job_key, fencing=fencing, generation=number, files=tuple(files))
    raw = documents.encode(made)
    digest = documents.sha256(raw)
    blobs.put(layout.checkpoint_manifest(job_key, digest), raw)
    values = {"manifest": digest, "by": fencing, "generation": number, "fencing": fencing}
    _update(job_key, fencing, values, records)
    if last is not None:
        _remove(job_key, last, {file.sha256 for file in files}, blobs)
    return len(files)


def discard(job_key: str, fencing: int, blobs: BlobStore, records: Records) -> None:
    """The job needs none any more. What cannot be removed now, a lifecycle rule of the bucket removes."""
    last = _read(job_key, _item(job_key, records), blobs)
    _update(job_key, fencing, {"manifest": "", "by": fencing, "generation": 0, "fencing": fencing}, records)
    if last is not None:
        _remove(job_key, last, set(), blobs)
    for info in [*blobs.keys(layout.cloud_checkpoints(job_key))]:
        blobs.delete(info.key)


def _claim(job_key: str, fencing: int, blobs: BlobStore, records: Records) -> Checkpoint | None:
    _update(job_key, fencing, {"fencing": fencing, "local_only": ""}, records)
    return _read(job_key, _item(job_key, records), blobs)


def _read(job_key: str, item: Item, blobs: BlobStore) -> Checkpoint | None:
    """Return the committed checkpoint; one that is not what the record names is none."""
    digest = item.get("manifest")
    if not digest:
        return None
    key = layout.checkpoint_manifest(job_key, digest)
    try:
        raw = blobs.get(key, max_bytes=documents.MAX_DOCUMENT_BYTES)
        return documents.decode(Checkpoint, raw, key) if documents.sha256(raw) == digest else None
    except IsthmusError:
        return None


def _remove(job_key: str, checkpoint: Checkpoint, keep: set[str], blobs: BlobStore) -> None:
    for sha256 in {file.sha256 for file in checkpoint.files} - keep:
        blobs.delete(layout.checkpoint_blob(job_key, sha256))
    blobs.delete(layout.checkpoint_manifest(job_key, documents.digest(checkpoint)))


def _item(job_key: str, records: Records) -> Item:
    return records.get(layout.job_pk(job_key), layout.CHECKPOINT) or {}


def _update(job_key: str, fencing: int, values: dict[str, object], records: Records) -> None:
    try:
        records.update(layout.job_pk(job_key), layout.CHECKPOINT, values, below={"fencing": fencing + 1})
    except Conflict as error:
        raise AttemptLost(f"a later attempt of job {job_key} has its checkpoints") from error
