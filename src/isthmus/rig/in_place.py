"""An attempt's data where they are not fetched: found, verified, linked; and afterwards the model judged beside them.

What may not leave their zone is kept on this rig: what the script printed, and whatever else it wrote but the model.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from isthmus import documents
from isthmus.errors import (
    AttemptLost,
    DigestMismatch,
    EnvironmentProblem,
    InvalidDocument,
    InvalidModel,
    IsthmusError,
    PermissionMissing,
    PolicyViolation,
    TrainingFailed,
)
from isthmus.model import layout
from isthmus.model.bundle import MODEL_FILE
from isthmus.model.dataset import InPlace, Manifest
from isthmus.model.job import Job
from isthmus.model.judgement import JUDGEMENT_FILE, Judgement, Scores
from isthmus.model.policy import DataPolicy
from isthmus.ports import Flag, GoOn, TrainingRun
from isthmus.rig import judge, withheld
from isthmus.rig.contract import Layout
from isthmus.rig.data_roots import Facts, Found, find, home_of
from isthmus.rig.output import write
from isthmus.rig.services import Report, RigSettings, Services
from isthmus.rig.verified import Verified
from isthmus.sync.collect import file_sha256, stream_sha256
from isthmus.workflows.evaluate_model import fetch_champion
from isthmus.workflows.in_place import check_location
from isthmus.workflows.loading import load_own_policy

READERS = 4
ELSEWHERE = "why stands in the rig's log"

Persistently = Callable[[Callable[[], Any]], Any]
"""Calls until the service answers, or the attempt ends."""


class InPlaceData:
    """The data of one attempt, whose manifest says that they lie on this rig."""

    def __init__(
        self,
        data: InPlace,
        manifest: Manifest,
        settings: RigSettings,
        services: Services,
        persistently: Persistently,
        report: Report,
    ) -> None:
        judge.check_possible()
        self._manifest = manifest
        self._data = data
        self._settings = settings
        self._services = services
        self._persistently = persistently
        self._report = report
        self._home = home_of(self._data, settings.data_roots)
        self._files: list[Found] = []

    @property
    def home(self) -> Path:
        """The dataset's folder: all that a container needs to see of this machine."""
        return self._home

    def place(self, folders: Layout, go_on: GoOn) -> None:
        """Verify every file, and link it to where the training contract has it. Raises as ``verify``."""
        for found in self.verify(go_on):
            path = found.file.path
            target = folders.data / (path if "/" in path else f"{found.file.channel}/{path}")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(found.path)

    def verify(self, go_on: GoOn) -> Sequence[Found]:
        """Return the files, in the manifest's order, each read and right, or unchanged since.

        Raises:
            PolicyViolation: the dataset's policy does not let them be read here, or what comes of them be sent.
            MissingFile, DigestMismatch, Refused: a file is gone, has changed, or is none of the dataset's.
            EnvironmentProblem: it cannot be read.
        """
        self._policy()
        self._files = [find(file, self._data, self._home) for file in self._manifest.files]
        with Verified(self._settings.folder, self._services.clock) as memory:
            known = memory.known(self._files)
            unknown = [found for found in self._files if known.get(found.path) != found.file.sha256]
            for found, sha256 in zip(unknown, self._digests(unknown, go_on), strict=True):
                memory.remember(found, sha256)
                self._check(found, sha256)
        return self._files

    def _policy(self) -> DataPolicy:
        """Return the dataset's policy, which lets its data lie here and their model leave.

        Asked before a script starts and where the bytes would move: it may have changed since the plan.

        Raises:
            PolicyViolation: it does not, or there is none, or none that can be read.
            Unavailable: the table did not answer until the attempt ended.
        """
        dataset = self._manifest.dataset
        try:
            own = self._persistently(lambda: load_own_policy(self._services.records, dataset))
        except (PermissionMissing, InvalidDocument) as error:
            raise PolicyViolation(
                f"needs the data policy of {dataset}, for its files are read in place; this rig cannot read it "
                f"({error}): have an administrator set it again (isthmus policy set), or update the rig"
            ) from error
        return check_location(dataset, self._data, own, self._settings.bucket_zone)

    def _digests(self, files: Sequence[Found], go_on: GoOn) -> Iterator[str]:
        def digest(found: Found) -> str:
            go_on()
            return _digest(found, self._data, go_on)

        if self._settings.connections == 1:  # then no thread is started
            yield from map(digest, files)
            return
        with ThreadPoolExecutor(READERS) as pool:
            yield from pool.map(digest, files)

    def _check(self, found: Found, sha256: str) -> None:
        if sha256 != found.file.sha256:
            raise DigestMismatch(
                f"needs {found.file.path} of {self._data} as it was pushed, with the SHA-256 "
                f"{found.file.sha256[:12]}…; it has {sha256[:12]}… now: put it back, or push the dataset again"
            )

    def finish(self, run: TrainingRun, job: Job, folders: Layout, run_id: str, stop: Flag) -> TrainingRun:
        """Return what of a run may be told; of one that went well, leave the judgement of its model beside it.

        Raises:
            PolicyViolation: the policy changed meanwhile, and nothing may leave.
            TrainingFailed: the data changed while the script ran, or the model while it was judged.
            InvalidModel, InvalidInput: the model cannot be scored on them.
            AttemptLost: ``stop`` was set meanwhile.
            Unavailable: the table did not answer until the attempt ended; so nothing is sent.
        """
        if run.stopped:
            return run
        _remove(folders.root / JUDGEMENT_FILE)
        kept = self._withhold(folders, failed=run.exit_code != 0)
        if run.exit_code == 0:
            self._check_unchanged(stop)
            self._judge(job, folders, run_id, stop, kept)
        if not kept:
            return run
        tail = f"what it printed may not leave the rig: there it is in {kept}"
        return dataclasses.replace(run, tail=tail, withheld=kept)

    def _withhold(self, folders: Layout, *, failed: bool) -> str:
        """Take out of the attempt's folder what may not leave; return where it is now, or an empty text."""
        try:
            policy = self._policy()
        except PolicyViolation:
            withheld.keep(folders, self._settings.folder, model=True)
            raise
        if policy.lets_checkpoints_lie_in(self._settings.bucket_zone):
            return ""
        return str(withheld.keep(folders, self._settings.folder, model=failed))

    def _check_unchanged(self, stop: Flag) -> None:
        def go_on() -> None:
            if stop.is_set():
                raise AttemptLost("the attempt was stopped while its data were verified")

        for found in self._files:
            if not _is_same(found, self._data, go_on):
                raise TrainingFailed(
                    f"needs {found.file.path} of {self._data} unchanged while the script runs; it was changed "
                    "meanwhile: let the agent's user read the data, and not write them"
                )

    def _judge(self, job: Job, folders: Layout, run_id: str, stop: Flag, kept: str) -> None:
        """Score the model and the champion here; what the cloud decides by is their accuracy alone."""
        model = folders.model / MODEL_FILE
        if job.evaluation is None or model.is_symlink() or not model.is_file():
            raise InvalidModel(f"the attempt left no {MODEL_FILE} that could be judged")
        work = Path(tempfile.mkdtemp(prefix="judge-", dir=folders.root))
        sha256 = file_sha256(model)
        champion, bundle = self._champion(job.model, work)
        paths = {job.evaluation.inputs.path, job.evaluation.labels.path}
        request = judge.Request(
            evaluation=job.evaluation,
            files={f.file.path: (str(f.path), f.file.sha256) for f in self._files if f.file.path in paths},
            candidate=judge.Model(path=str(model), preprocessing=job.preprocessing),
            champion=champion,
        )
        scores = self._scores(request, work, run_id, stop, kept)
        if file_sha256(model) != sha256:
            raise TrainingFailed(
                f"needs a {MODEL_FILE} that stays as it is while it is judged; it was changed meanwhile: let no "
                "process of the script outlive it"
            )
        judgement = Judgement(scores=scores, model=sha256, champion_bundle=bundle)
        write(folders.root / JUDGEMENT_FILE, documents.encode(judgement))

    def _scores(self, request: judge.Request, work: Path, run_id: str, stop: Flag, kept: str) -> Scores:
        """Score both. Why that failed may tell of values: where logs may not leave, it is said here alone."""
        try:
            scores = judge.judge(
                request, work, run_id=run_id, stop=stop, on_line=lambda line: self._report("judge", line=line)
            )
        except IsthmusError as error:
            if not kept:
                raise
            self._report("not judged", error=str(error))
            raise type(error)(f"the model could not be judged where its data lie; {ELSEWHERE}") from error
        if not kept or not scores.incomparable:
            return scores
        self._report("champion not judged", error=scores.incomparable)
        return msgspec.structs.replace(scores, incomparable=ELSEWHERE)

    def _champion(self, model: str, work: Path) -> tuple[judge.Model | None, str]:
        """Return the model in service and its bundle's digest; looked for now, as late as can be."""
        services = self._services
        item = self._persistently(lambda: services.records.get(layout.CHAMPIONS, model))
        if item is None:
            return None, ""
        path, served = self._persistently(lambda: fetch_champion(item, services.blobs, work))
        return judge.Model(path=str(path), preprocessing=served.preprocessing), str(item["bundle"])


def _remove(path: Path) -> None:
    """Remove whatever a script put there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _is_same(found: Found, data: InPlace, go_on: GoOn) -> bool:
    """Whether a file has the bytes that it had. A backup by hard links changes a file's times, and none of these."""
    try:
        now = Facts.of(found.path.lstat())
    except OSError:
        return False
    was = found.facts
    if now == was:
        return True
    if (now.device, now.inode, now.size_bytes) != (was.device, was.inode, was.size_bytes):
        return False
    return _digest(dataclasses.replace(found, facts=now), data, go_on) == found.file.sha256


def _digest(found: Found, data: InPlace, go_on: GoOn) -> str:
    """Return the SHA-256 (hex) of a file that stays the same while it is read."""
    what = f"{found.file.path} of {data}"
    try:
        handle = os.open(found.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(handle, "rb", buffering=0) as stream:
            before = Facts.of(os.fstat(handle))
            sha256 = stream_sha256(stream, go_on)
            after = Facts.of(os.fstat(handle))
    except OSError as error:
        raise EnvironmentProblem(
            f"needs {what}, which the agent's user cannot read: {error.strerror or error}"
        ) from error
    if not before == after == found.facts:
        raise DigestMismatch(f"needs {what} to stay as it is; it was changed while it was verified")
    return sha256
