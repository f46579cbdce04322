"""The model store of a core device: stage, verify, activate, prove, commit, else keep the previous.

Everything that a restart must know is on disk, so a crash at any moment leaves a store that the
next start can decide from (the pattern of AWS's Greengrass certificate rotator)::

    models/<sha256 of the artifact>/   one unpacked bundle each; it appears whole or not at all
    models/.<…>                        unfinished unpacking: removed at the next start
    active    -> models/<sha256>       what is being proven, or is in service
    committed -> models/<sha256>       the last model that was proven
    attempts/<sha256>                  how often the proof of this artifact was begun, not finished

``active != committed`` after a restart means that a proof did not finish: power was lost, or the
model killed the process. ``active`` goes back to the committed model at once, and the candidate is
tried again ``MAX_ATTEMPTS`` times in all.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from isthmus.errors import EnvironmentProblem, IsthmusError, MissingFile, ProofFailed
from isthmus.inference.archive import unpack_bundle
from isthmus.inference.bundle import Bundle, open_bundle
from isthmus.inference.files import sha256_file
from isthmus.inference.limits import unzipped_bytes
from isthmus.model.units import MIB, format_bytes

MAX_ATTEMPTS = 2
DISK_RESERVE_BYTES = 20 * MIB
"""What Greengrass itself needs free to deploy."""

logger = logging.getLogger(__name__)
Prove = Callable[[Bundle], object]


@dataclass(frozen=True)
class InService:
    """The model to serve; ``refused`` says why a newer artifact is not it."""

    bundle: Bundle
    artifact_sha256: str
    refused: str = ""


class ModelStore:
    """The store in one folder; one process at a time uses it."""

    def __init__(self, root: Path, public_key_der: bytes) -> None:
        self._root = root
        self._key = public_key_der

    def update(self, artifact: Path | None, prove: Prove) -> InService:
        """Bring the artifact into service if it proves itself, and return what is in service.

        ``prove`` raises when the bundle must not serve. Without an artifact the committed model stays.

        Raises:
            MissingFile: no artifact, and no model was ever committed.
            IsthmusError: why the artifact was refused, where there is no previous model to keep.
        """
        previous = self._recover()
        sha256 = sha256_file(artifact) if artifact is not None else ""
        if previous is not None and sha256 == previous.artifact_sha256:
            self._collect(keep=sha256)
            return previous
        if artifact is None:
            if previous is None:
                raise MissingFile("no model artifact has arrived, and the store holds no model")
            return dataclasses.replace(previous, refused="MissingFile: no model artifact has arrived")
        try:
            return self._adopt(artifact, sha256, prove)
        except (IsthmusError, OSError) as error:
            self._drop(sha256)
            if previous is None:
                raise
            logger.error("model %s refused, %s stays: %s", sha256, previous.artifact_sha256, error)
            self._point("active", previous.artifact_sha256)
            return InService(previous.bundle, previous.artifact_sha256, f"{type(error).__name__}: {error}")

    def _adopt(self, artifact: Path, sha256: str, prove: Prove) -> InService:
        bundle = self._stage(artifact, sha256)
        self._begin_attempt(sha256)
        self._point("active", sha256)
        try:
            prove(bundle)
        except IsthmusError:
            # An orderly refusal, not a crash: it does not count as an attempt that never ended.
            (self._root / "attempts" / sha256).unlink()
            raise
        self._point("committed", sha256)
        self._collect(keep=sha256)
        return InService(bundle, sha256)

    def _recover(self) -> InService | None:
        """Remove what is unfinished, point ``active`` at ``committed``, and verify that model again."""
        (self._root / "models").mkdir(parents=True, exist_ok=True)
        (self._root / "attempts").mkdir(exist_ok=True)
        for leftover in self._root.glob("models/.*"):
            shutil.rmtree(leftover)
        committed = self._target("committed")
        if self._target("active") not in (None, committed):
            logger.warning("a proof did not finish; back to %s", committed or "no model")
            self._point("active", committed)
        if committed is None:
            return None
        try:
            return InService(open_bundle(self._root / "models" / committed, self._key), committed)
        except IsthmusError as error:
            # The disk lost what was committed; the artifact is the only way back.
            logger.error("the committed model %s is damaged: %s", committed, error)
            self._point("committed", None)
            self._point("active", None)
            self._drop(committed)
            return None

    def _stage(self, artifact: Path, sha256: str) -> Bundle:
        folder = self._root / "models" / sha256
        if not folder.exists():
            self._check_space(unzipped_bytes(artifact))
            unpack_bundle(artifact, folder)
            _sync_folder(folder.parent)
        return open_bundle(folder, self._key)

    def _check_space(self, needed_bytes: int) -> None:
        free = shutil.disk_usage(self._root).free
        if free < needed_bytes + DISK_RESERVE_BYTES:
            raise EnvironmentProblem(
                f"the model needs {format_bytes(needed_bytes + DISK_RESERVE_BYTES)}, the reserve of "
                f"{format_bytes(DISK_RESERVE_BYTES)} included; {format_bytes(free)} are free"
            )

    def _begin_attempt(self, sha256: str) -> None:
        counter = self._root / "attempts" / sha256
        begun = int(counter.read_text()) if counter.exists() else 0
        if begun >= MAX_ATTEMPTS:
            raise ProofFailed(f"the model stopped this process {begun} times while it was proven")
        partial = self._root / f".attempts.{os.getpid()}"
        partial.write_text(str(begun + 1))
        os.replace(partial, counter)
        _sync_folder(counter.parent)

    def _target(self, link: str) -> str | None:
        path = self._root / link
        return Path(os.readlink(path)).name if path.is_symlink() else None

    def _point(self, link: str, sha256: str | None) -> None:
        """Replace a link atomically: a crash leaves the old one or the new one."""
        path = self._root / link
        if sha256 is None:
            path.unlink(missing_ok=True)
        else:
            partial = self._root / f".{link}"
            partial.unlink(missing_ok=True)
            partial.symlink_to(Path("models") / sha256)
            os.replace(partial, path)
        _sync_folder(self._root)

    def _drop(self, sha256: str) -> None:
        shutil.rmtree(self._root / "models" / sha256, ignore_errors=True)

    def _collect(self, keep: str) -> None:
        for folder in (self._root / "models").iterdir():
            if folder.name != keep:
                shutil.rmtree(folder)
        (self._root / "attempts" / keep).unlink(missing_ok=True)


def find_artifact(place: Path) -> Path | None:
    """Return the artifact that the model component brought: ``place`` itself, or the one zip in it.

    Raises:
        EnvironmentProblem: more than one zip lies there, so which is meant cannot be told.
    """
    if place.is_file():
        return place
    found = sorted(place.glob("*.zip")) if place.is_dir() else []
    if len(found) > 1:
        raise EnvironmentProblem(f"{place} holds {len(found)} model artifacts; one is needed")
    return found[0] if found else None


def _sync_folder(folder: Path) -> None:
    """Make a rename in this folder survive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
