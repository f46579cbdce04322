"""An attempt's data where they are not fetched: found, verified, linked; and afterwards the model judged beside them.

What may not leave their zone is kept on this rig: what the script printed, and whatever else it wrote but the model.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from isthmus import documents
from isthmus.errors import (
    DigestMismatch,
    EnvironmentProblem,
    InvalidDocument,
    InvalidModel,
    IsthmusError,
    PermissionMissing,
    TrainingFailed,
)
from isthmus.model import layout
from isthmus.model.bundle import MODEL_FILE
from isthmus.model.dataset import InPlace, Manifest
from isthmus.model.job import Job
from isthmus.model.judgement import JUDGEMENT_FILE, Judgement
from isthmus.ports import Flag, GoOn, TrainingRun
from isthmus.rig import judge, withheld
from isthmus.rig.contract import Layout
from isthmus.rig.data_roots import Facts, Found, find, home_of
from isthmus.rig.output import write
from isthmus.rig.services import Report, RigSettings, Services
from isthmus.rig.verified import Verified
from isthmus.sync.collect import file_sha256, stream_sha256
from isthmus.workflows.evaluate_model import fetch_champion
from isthmus.workflows.loading import load_policy

READERS = 4

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
        """Verify every file, and link it to where the training contract has it.

        Raises:
            MissingFile, DigestMismatch, Refused: a file is gone, has changed, or is none of the dataset's.
            EnvironmentProblem: it cannot be read.
        """
        self._files = [find(file, self._data, self._home) for file in self._manifest.files]
        with Verified(self._settings.folder) as memory:
            known = memory.known(self._files)
            unknown = [found for found in self._files if known.get(found.path) != found.file.sha256]
            for found, sha256 in zip(unknown, self._digests(unknown, go_on), strict=True):
                memory.remember(found, sha256)
                self._check(found, sha256)
        for found in self._files:
            path = found.file.path
            target = folders.data / (path if "/" in path else f"{found.file.channel}/{path}")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(found.path)

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
            TrainingFailed: the data changed while the script ran.
            InvalidModel, InvalidInput: the model cannot be scored on them.
            AttemptLost: ``stop`` was set meanwhile.
        """
        if run.stopped:
            return run
        kept = self._withhold(folders)
        if run.exit_code == 0:
            self._check_unchanged()
            self._judge(job, folders, run_id, stop, kept)
        if not kept:
            return run
        return dataclasses.replace(run, tail=f"what it printed may not leave the rig: there it is in {kept}")

    def _withhold(self, folders: Layout) -> str:
        """Take out of the attempt's folder what may not leave; return where it is now, or an empty text."""
        dataset, zone = self._manifest.dataset, self._settings.bucket_zone
        try:
            # Asked where the bytes would move: the policy may have changed since the plan.
            policy = self._persistently(lambda: load_policy(self._services.records, dataset))
        except (PermissionMissing, InvalidDocument):
            policy = None
        if policy is not None and policy.lets_checkpoints_lie_in(zone):
            return ""
        return str(withheld.keep(folders, self._settings.folder))

    def _check_unchanged(self) -> None:
        for found in self._files:
            try:
                same = Facts.of(found.path.lstat()) == found.facts
            except OSError:
                same = False
            if not same:
                raise TrainingFailed(
                    f"needs {found.file.path} of {self._data} unchanged while the script runs; it was changed "
                    "meanwhile: let the agent's user read the data, and not write them"
                )

    def _judge(self, job: Job, folders: Layout, run_id: str, stop: Flag, kept: str) -> None:
        """Score the model and the champion here; what the cloud decides by is their accuracy alone."""
        model, work = folders.model / MODEL_FILE, folders.root / "judge"
        if job.evaluation is None or model.is_symlink() or not model.is_file():
            raise InvalidModel(f"the attempt left no {MODEL_FILE} that could be judged")
        work.mkdir()
        champion, bundle = self._champion(job.model, work)
        paths = {job.evaluation.inputs.path, job.evaluation.labels.path}
        request = judge.Request(
            evaluation=job.evaluation,
            files={f.file.path: (str(f.path), f.file.sha256) for f in self._files if f.file.path in paths},
            candidate=judge.Model(path=str(model), preprocessing=job.preprocessing),
            champion=champion,
        )
        try:
            scores = judge.judge(
                request, work, run_id=run_id, stop=stop, on_line=lambda line: self._report("judge", line=line)
            )
        except IsthmusError as error:
            if not kept:
                raise
            # It may tell of values; so it is said here alone.
            self._report("not judged", error=str(error))
            raise type(error)(
                "the model could not be judged where its data lie; why stands in the rig's log"
            ) from error
        judgement = Judgement(scores=scores, model=file_sha256(model), champion_bundle=bundle)
        write(folders.root / JUDGEMENT_FILE, documents.encode(judgement))

    def _champion(self, model: str, work: Path) -> tuple[judge.Model | None, str]:
        """Return the model in service and its bundle's digest; looked for now, as late as can be."""
        services = self._services
        item = self._persistently(lambda: services.records.get(layout.CHAMPIONS, model))
        if item is None:
            return None, ""
        path, served = self._persistently(lambda: fetch_champion(item, services.blobs, work))
        return judge.Model(path=str(path), preprocessing=served.preprocessing), str(item["bundle"])


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
