"""A job's checkpoints: plain files on this rig, mirrored to the bucket, restored where the job goes on.

As on SageMaker ("SageMaker AI saves checkpoints to Amazon S3 and syncs your training job with the
checkpoint S3 bucket", developer guide, "Enable checkpointing"), with what it leaves out: a commit point. Files
lie by their digest; a manifest names them; the item ``JOB#<key>`` / ``CHECKPOINT`` names the manifest, and
is written last, on condition that no later attempt has claimed it. ``by`` in it is the attempt whose
checkpoint, or whose end, is the newest: a local copy of an attempt before that is out of date.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from isthmus import documents
from isthmus.errors import (
    AttemptLost,
    Conflict,
    InvalidDocument,
    InvalidInput,
    IsthmusError,
    PermissionMissing,
    Refused,
)
from isthmus.model import layout
from isthmus.model.checkpoint import Checkpoint, CheckpointFile
from isthmus.model.messages import Work
from isthmus.ports import BlobStore, Item, Records
from isthmus.rig.services import Report, Services
from isthmus.workflows.loading import load_policy

ALL = 1 << 62
"""What an agent of the version before, which noted no generation, knew of."""
FIRST = 1
"""The fencing number of a job's first attempt (``workflows.plan_training`` counts from it)."""


@dataclass(frozen=True)
class Staged:
    """A file of a checkpoint, held still at ``path`` while it is sent."""

    path: Path
    sha256: str
    size_bytes: int


class Checkpoints:
    """The checkpoints of one attempt's job. ``ask`` returns why they may not leave this rig, or an empty text; it is
    called when that first matters, and may raise Unavailable."""

    def __init__(
        self, root: Path, job_key: str, fencing: int, blobs: BlobStore, records: Records, report: Report
    ) -> None:
        self.folder = root / job_key
        self.staging = root / f"{job_key}.staging"
        self.ask: Callable[[], str] = lambda: ""
        self._owner = root / f"{job_key}.fencing"
        self._key = job_key
        self._fencing = fencing
        self._blobs = blobs
        self._records = records
        self._report = report
        self._last: Checkpoint | None = None
        self._generation = 0

    @cached_property
    def local_only(self) -> str:
        """Why they may not leave this rig, or an empty text.

        Raises:
            Unavailable: of who knows.
        """
        return self.ask()

    # ------------------------------------------------------------------ where an attempt begins

    def restore(self) -> None:
        """Make the folder hold the newest complete checkpoint; from now on no earlier attempt commits one.

        What this rig has of an attempt at least as late as the bucket's is newer, or the same, and is used,
        unless another agent committed more under that attempt's number.
        A checkpoint that is not what its manifest says is not used: the training starts afresh. May be
        repeated.

        Raises:
            AttemptLost: a later attempt restored or committed one.
            Unavailable: table or bucket did not answer.
        """
        # No attempt was before the first: there is nothing to fetch, and nobody to be kept from committing.
        if self._fencing > FIRST:
            self._go_on_from(self._claim())
        self.folder.mkdir(parents=True, exist_ok=True)
        self._own()
        self._report("checkpoints", job_key=self._key, files=_count(self.folder))

    def _go_on_from(self, item: Item) -> None:
        self._generation = item.get("generation", 0)
        if self._owned_by() < (item.get("by", 0), self._generation):
            self._fetch(item)
        elif item.get("manifest"):
            self._last = self._manifest(item["manifest"])

    def _claim(self) -> Item:
        values = {"fencing": self._fencing, "local_only": self.local_only}
        try:
            self._update(values)
        except Conflict as error:
            raise AttemptLost(f"a later attempt of job {self._key} has its checkpoints") from error
        return self._item()

    def _own(self) -> None:
        _write(self._owner, f"{self._fencing} {self._generation}")

    def _owned_by(self) -> tuple[int, int]:
        """Return the attempt that last trained in the local folder, and the newest generation of checkpoints that it
        knew of: two agents may have had one attempt in turn. (0, 0): none, or nobody knows."""
        try:
            fencing, *generation = self._owner.read_text(encoding="ascii").split()
            return int(fencing), int(generation[0]) if generation else ALL
        except (FileNotFoundError, ValueError):
            return 0, 0

    def _fetch(self, item: Item) -> None:
        """Replace the local folder by the bucket's checkpoint, verified, or by none."""
        fresh = self.folder.with_suffix(".new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        if item.get("manifest") and not self.local_only:
            self._last = self._manifest(item["manifest"])
            if self._last is not None and not self._download(self._last, fresh):
                shutil.rmtree(fresh)
                fresh.mkdir()
                # Not all of it is in the bucket: the next commit sends every file.
                self._last = None
        shutil.rmtree(self.folder, ignore_errors=True)
        os.replace(fresh, self.folder)

    def _manifest(self, digest: str) -> Checkpoint | None:
        key = layout.checkpoint_manifest(self._key, digest)
        try:
            raw = self._blobs.get(key, max_bytes=documents.MAX_DOCUMENT_BYTES)
            if documents.sha256(raw) == digest:
                return documents.decode(Checkpoint, raw, key)
            self._say("checkpoint not used", f"{key} is not what the job's record names")
        except (InvalidInput, Refused) as error:
            self._say("checkpoint not used", str(error))
        return None

    def _download(self, checkpoint: Checkpoint, folder: Path) -> bool:
        for file in checkpoint.files:
            try:
                found = self._blobs.download(
                    layout.checkpoint_blob(self._key, file.sha256), folder / file.path
                )
            except (InvalidInput, Refused) as error:
                self._say("checkpoint not used", str(error))
                return False
            if found != file.sha256:
                self._say("checkpoint not used", f"{file.path} has the SHA-256 {found}, not {file.sha256}")
                return False
        return True

    # ------------------------------------------------------------------ while it trains

    def commit(self, files: Mapping[str, Staged], unchanged: Callable[[], bool]) -> bool:
        """Send a checkpoint and commit it; return whether it is the job's newest now.

        ``unchanged`` is asked when all is sent: files that were written meanwhile are not committed.

        Raises:
            DigestMismatch: a file changed while it was sent.
            AttemptLost: a later attempt has claimed the checkpoints.
            Unavailable, PermissionMissing, LimitExceeded: of the bucket or the table.
        """
        entries = tuple(
            CheckpointFile(path=path, sha256=file.sha256, size_bytes=file.size_bytes)
            for path, file in sorted(files.items())
        )
        last = self._last
        if last is not None and last.files == entries:
            return False
        there = {file.sha256 for file in last.files} if last else set()
        for file in {file.sha256: file for file in files.values()}.values():
            if file.sha256 not in there:
                key = layout.checkpoint_blob(self._key, file.sha256)
                self._blobs.upload(key, file.path, sha256=file.sha256)
        if not unchanged():
            return False
        number = self._generation + 1
        self._publish(
            Checkpoint(job_key=self._key, fencing=self._fencing, generation=number, files=entries), last
        )
        return True

    def _publish(self, checkpoint: Checkpoint, last: Checkpoint | None) -> None:
        raw = documents.encode(checkpoint)
        digest = documents.sha256(raw)
        self._blobs.put(layout.checkpoint_manifest(self._key, digest), raw)
        values = {"manifest": digest, "by": self._fencing, "generation": checkpoint.generation}
        try:
            self._update({**values, "fencing": self._fencing})
        except Conflict as error:
            raise AttemptLost(f"a later attempt of job {self._key} has its checkpoints") from error
        self._last, self._generation = checkpoint, checkpoint.generation
        self._own()
        self._report("checkpoint committed", job_key=self._key, **values, files=len(checkpoint.files))
        if last is not None:
            self._remove(last, keep={file.sha256 for file in checkpoint.files})

    # ------------------------------------------------------------------ when the job is over

    def discard(self, *, committed: bool) -> None:
        """The job needs none any more: remove them here and, if the outcome counts, from the bucket.

        Nothing depends on it: what cannot be removed now, a lifecycle rule removes.
        """
        for path in (self.folder, self.staging):
            shutil.rmtree(path, ignore_errors=True)
        self._owner.unlink(missing_ok=True)
        if not committed:
            return
        try:
            manifest = self._item().get("manifest")
            last = self._manifest(manifest) if manifest else None
            ended = {"manifest": "", "by": self._fencing, "generation": 0, "fencing": self._fencing}
            self._update(ended)
            if last is not None:
                self._remove(last, keep=set())
        except IsthmusError as error:
            self._say("checkpoints left in the bucket", str(error))

    def _remove(self, checkpoint: Checkpoint, keep: set[str]) -> None:
        keys = [
            layout.checkpoint_blob(self._key, sha256)
            for sha256 in {file.sha256 for file in checkpoint.files} - keep
        ]
        keys.append(layout.checkpoint_manifest(self._key, documents.digest(checkpoint)))
        try:
            for key in keys:
                self._blobs.delete(key)
        except IsthmusError as error:
            self._say("an old checkpoint was left in the bucket", str(error))

    def _item(self) -> Item:
        return self._records.get(layout.job_pk(self._key), layout.CHECKPOINT) or {}

    def _update(self, values: Mapping[str, object]) -> None:
        below = {"fencing": self._fencing + 1}
        self._records.update(layout.job_pk(self._key), layout.CHECKPOINT, values, below=below)

    def _say(self, event: str, reason: str) -> None:
        self._report(event, job_key=self._key, fencing=self._fencing, reason=reason)


def checkpoints_of(work: Work, services: Services, folder: Path, report: Report) -> Checkpoints:
    """Return an attempt's checkpoints; ``folder`` is the rig's."""
    root, (blobs, records) = folder / "checkpoints", (services.blobs, services.records)
    return Checkpoints(root, work.job_key, work.fencing, blobs, records, report)


def why_local(records: Records, dataset: str, zone: str) -> str:
    """Return why a dataset's checkpoints may not go to a bucket in ``zone``, or an empty text.

    Raises:
        Unavailable: the table did not answer.
    """
    try:
        policy = load_policy(records, dataset)
    except (PermissionMissing, InvalidDocument) as error:
        return f"the data policy of {dataset} cannot be read: {error}"
    if policy.lets_checkpoints_lie_in(zone):
        return ""
    return (
        f"the data policy of {dataset} lets raw data lie in {', '.join(policy.zones) or 'no zone'} and "
        f"{policy.may_leave} leave; the bucket lies in {zone or 'an unknown zone'}, and a checkpoint is "
        "whatever a script wrote"
    )


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.new")
    temporary.write_text(text, encoding="ascii")
    os.replace(temporary, path)


def _count(folder: Path) -> int:
    return sum(1 for path in folder.rglob("*") if path.is_file())
