"""The model store of a core device: stage, verify, activate, prove, commit, else keep the previous.

Everything that a restart must know is on disk, so a crash at any moment leaves a store that the
next start can decide from (the pattern of AWS's Greengrass certificate rotator)::

    models/<sha256 of the artifact>/   one unpacked bundle each; it appears whole or not at all
    models/.<…>                        unfinished unpacking: removed at the next start
    active    -> models/<sha256>       what is being proven, or is in service
    committed -> models/<sha256>       the last model that was proven: the one commit point
    attempts/<sha256>                  how often the proof of this artifact was begun, not finished
    trust.json                         keys, and the highest release that was committed (``trust.py``)

``active != committed`` after a restart means that a proof did not finish: power was lost, or the
model killed the process. ``active`` goes back to the committed model at once, and the candidate is
tried again ``MAX_ATTEMPTS`` times in all. Each step is on the disk before the next begins (``durable.py``).
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from isthmus.durable import make_folder, sync_folder, write_durably
from isthmus.edge.trust import NO_PAPERS, Papers, read_trust, write_trust
from isthmus.errors import EnvironmentProblem, IsthmusError, MissingFile, ProofFailed, ReleaseOutdated
from isthmus.inference.bundle import Bundle
from isthmus.inference.files import sha256_file
from isthmus.model.units import MIB, format_bytes

MAX_ATTEMPTS = 2
DISK_RESERVE_BYTES = 20 * MIB
"""What Greengrass itself needs free to deploy."""

logger = logging.getLogger(__name__)
Prove = Callable[[Bundle], object]


@dataclass(frozen=True)
class InService:
    """The model to serve; ``refused`` says why a newer artifact is not it.

    ``is_failure``: what was deployed anew is refused for what it is. Not so an older release than the device has, and
    not what became unreadable after it had been in service: there, to end the process would end a service that works.
    ``warnings``: what a person should see to.
    """

    bundle: Bundle
    artifact_sha256: str
    refused: str = ""
    is_failure: bool = False
    warnings: tuple[str, ...] = ()


class ModelStore:
    """The store in one folder; one process at a time uses it."""

    def __init__(self, root: Path, public_key_der: bytes, papers: Papers = NO_PAPERS) -> None:
        """``public_key_der`` is pinned at the store's first start; ``papers`` came with the artifact."""
        self._root = root
        self._papers = papers
        self._trust = read_trust(root, public_key_der)
        self._warnings: list[str] = []

    def update(self, artifact: Path | None, prove: Prove, place: str = "") -> InService:
        """Bring the artifact into service if it proves itself, and return what is in service.

        ``prove`` raises when the bundle must not serve. Without an artifact the committed model stays.
        ``place``: where it was deployed to, if another deployment is to another place.

        Raises:
            MissingFile: no artifact, and no model was ever committed.
            IsthmusError: why the artifact was refused, where there is no previous model to keep.
        """
        self._warnings = []
        previous, is_new = self._recover(), not place or place != self._trust.place
        self._follow_keys()
        sha256 = ""
        try:
            if artifact is None:
                raise MissingFile("no model artifact has arrived")
            sha256 = sha256_file(artifact)
            if previous is not None and sha256 == previous.artifact_sha256:
                self._keep(previous, place)
                return self._found(previous)
            bundle = self._stage(artifact, sha256)
            release = self._trust.release_of(bundle, self._papers.release)
            self._trust.check(bundle, release, sha256)
            self._begin_attempt(sha256, is_limited=previous is not None)
            self._prove(bundle, sha256, prove)
            self._commit(bundle, release, sha256, place)
            return self._found(InService(bundle, sha256))
        except Exception as error:
            # Whatever a hostile archive makes a library raise: the device goes on serving what it has.
            self._undo(sha256, previous)
            if previous is None:
                raise
            logger.error("model %s refused, %s stays: %s", sha256, previous.artifact_sha256, error)
            said, failed = f"{type(error).__name__}: {error}", not isinstance(error, ReleaseOutdated)
            return replace(self._found(previous), refused=said, is_failure=failed and is_new)

    def _found(self, in_service: InService) -> InService:
        if self._trust.is_signer_former:
            self._warn(
                f"the model in service is signed by {self._trust.signer[:12]}, which is trusted no more"
            )
        return replace(in_service, warnings=tuple(self._warnings))

    def _prove(self, bundle: Bundle, sha256: str, prove: Prove) -> None:
        self._point("active", sha256)
        try:
            prove(bundle)
        except IsthmusError:
            # An orderly refusal, not a crash: it does not count as an attempt that never ended.
            (self._root / "attempts" / sha256).unlink()
            raise

    def _commit(self, bundle: Bundle, release: int, sha256: str, place: str) -> None:
        # The mark first: what is in service is never above the mark that earlier releases are held against.
        trust = self._trust.committing(bundle, release, sha256, place)
        write_trust(self._root, trust)
        self._point("committed", sha256)
        self._trust = trust
        self._collect(keep=sha256)

    def _keep(self, in_service: InService, place: str) -> None:
        """What is in service was deployed again, perhaps as a later release."""
        self._collect(keep=in_service.artifact_sha256)
        try:
            release = self._trust.release_of(in_service.bundle, self._papers.release)
            trust = self._trust.committing(in_service.bundle, release, in_service.artifact_sha256, place)
            if trust != self._trust:
                write_trust(self._root, trust)
                self._trust = trust
        except (IsthmusError, OSError) as error:
            self._warn(f"which release it is now is not noted: {error}")

    def _undo(self, sha256: str, previous: InService | None) -> None:
        """Go back to what is committed; the candidate goes once nothing points to it."""
        before = previous.artifact_sha256 if previous is not None else None
        try:
            for link in ("committed", "active"):
                if self._target(link) != before:
                    self._point(link, before)
        except OSError as error:
            logger.error(
                "the links of %s cannot be set back, and are at the next start: %s", self._root, error
            )
        else:
            if sha256 and sha256 != before:
                with contextlib.suppress(OSError):
                    _remove(self._root / "models" / sha256)

    def _follow_keys(self) -> None:
        try:
            trust = self._trust.following(self._papers.keys)
            if trust != self._trust:
                write_trust(self._root, trust)
                logger.info("keys as of version %d are trusted now", trust.version)
            self._trust = trust
        except (IsthmusError, OSError) as error:
            self._warn(f"the keys stay as they were: {error}")

    def _warn(self, sentence: str) -> None:
        logger.warning(sentence)
        self._warnings.append(sentence)

    def _recover(self) -> InService | None:
        """Remove what is unfinished, point ``active`` at ``committed``, and verify that model again."""
        with contextlib.suppress(OSError):  # a disk that is full or read-only still has what was committed
            make_folder(self._root / "models")
            make_folder(self._root / "attempts")
            for leftover in self._root.glob("models/.*"):
                _remove(leftover)
        committed = self._target("committed")
        if self._target("active") not in (None, committed):
            logger.warning("a proof did not finish; back to %s", committed or "no model")
            with contextlib.suppress(OSError):
                self._point("active", committed)
        if committed is None:
            return None
        try:
            bundle = self._trust.open_committed(self._root / "models" / committed)
        except (IsthmusError, OSError) as error:
            # The disk lost what was committed; the artifact is the only way back.
            logger.error("the committed model %s is damaged: %s", committed, error)
            self._undo(committed, None)
            return None
        if not self._trust.model:
            # Committed before stores kept this.
            self._trust = self._trust.committing(bundle, bundle.manifest.release, committed, "")
        return InService(bundle, committed)

    def _stage(self, artifact: Path, sha256: str) -> Bundle:
        folder = self._root / "models" / sha256
        if folder.exists():
            try:
                return self._trust.open(folder)
            except IsthmusError as error:
                logger.warning("what was unpacked of %s before is unpacked anew: %s", sha256, error)
                _remove(folder)
        # A start that finds its model in service has no use for these.
        from isthmus.inference.archive import unpack_bundle
        from isthmus.inference.limits import unzipped_bytes

        self._check_space(unzipped_bytes(artifact))
        unpack_bundle(artifact, folder)
        return self._trust.open(folder)

    def _check_space(self, needed_bytes: int) -> None:
        free = os.statvfs(self._root).f_bavail * os.statvfs(self._root).f_frsize
        if free < needed_bytes + DISK_RESERVE_BYTES:
            raise EnvironmentProblem(
                f"the model needs {format_bytes(needed_bytes + DISK_RESERVE_BYTES)}, the reserve of "
                f"{format_bytes(DISK_RESERVE_BYTES)} included; {format_bytes(free)} are free"
            )

    def _begin_attempt(self, sha256: str, *, is_limited: bool) -> None:
        """Count it. A device without a model has nothing to lose by one try more."""
        counter = self._root / "attempts" / sha256
        said = counter.read_text() if counter.exists() else "0"
        # Stores of before could lose the number in a power cut, and not that there was one.
        begun = int(said) if said.isdecimal() else MAX_ATTEMPTS - 1
        if is_limited and begun >= MAX_ATTEMPTS:
            raise ProofFailed(f"the model stopped this process {begun} times while it was proven")
        write_durably(counter, str(begun + 1).encode())

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
        sync_folder(self._root)

    def _collect(self, keep: str) -> None:
        # What is committed serves, whether or not there is room for more.
        with contextlib.suppress(OSError):
            for folder in (self._root / "models").iterdir():
                if folder.name != keep:
                    _remove(folder)
            (self._root / "attempts" / keep).unlink(missing_ok=True)


def _remove(folder: Path) -> None:
    import shutil

    if folder.exists():
        shutil.rmtree(folder)


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
