"""One attempt: prepare, train, upload, commit the outcome, report it."""

from __future__ import annotations

import shutil
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from isthmus import documents
from isthmus.errors import (
    DEPLOYMENT_FAULTS,
    AttemptLost,
    EnvironmentProblem,
    InvalidJob,
    IsthmusError,
    Unavailable,
)
from isthmus.model import layout
from isthmus.model.dataset import DatasetFile, Manifest
from isthmus.model.job import Job, Training
from isthmus.model.messages import AttemptState, Outcome, Work
from isthmus.ports import BlobStore, Clock, JobQueue, Records, Reporter, Tasks, TrainingRun
from isthmus.rig import lease, output
from isthmus.rig.cache import FileCache
from isthmus.rig.contract import Layout
from isthmus.rig.lease import Keeper, Report
from isthmus.rig.runner import TrainingRequest

MAX_CAUSE_CHARACTERS = 8_000
"""Of an outcome's cause: it travels in a table item and in Step Functions' error (32,768 characters)."""
MAX_BACKOFF_SECONDS = 30.0
STOPPED = "the rig was stopped"

T = TypeVar("T")


class Runner(Protocol):
    """What runs a training: ``JobRunner``, or a test's own."""

    def run(self, request: TrainingRequest, stop: threading.Event) -> TrainingRun: ...


@dataclass(frozen=True)
class Services:
    """The control plane as a rig sees it."""

    queue: JobQueue
    records: Records
    tasks: Tasks
    blobs: BlobStore
    reporter: Reporter
    clock: Clock


@dataclass(frozen=True)
class RigSettings:
    """``folder`` holds the cache, the attempts, the journal and the checkpoints of unfinished jobs.

    ``settle_seconds``: what an agent that starts waits for a further message before it chooses.
    ``token_seconds`` bounds the wait between taking the work and the training's own token.
    """

    rig: str
    folder: Path
    receive_seconds: int = 20
    settle_seconds: int = 1
    poll_seconds: float = 1.0
    token_seconds: float = 300.0


def persistently(call: Callable[[], T], clock: Clock, give_up: Callable[[], bool], report: Report) -> T:
    """Call until the service answers, waiting longer each time, up to half a minute.

    Raises:
        Unavailable: ``give_up`` said that there is no point any more.
    """
    wait_seconds = 1.0
    while True:
        try:
            return call()
        except Unavailable as error:
            if give_up():
                raise
            report("waiting for a service", error=str(error), wait_seconds=wait_seconds)
        clock.sleep(wait_seconds)
        wait_seconds = min(2 * wait_seconds, MAX_BACKOFF_SECONDS)


def new_run_id(work: Work) -> str:
    """Return a name for an attempt's processes that was never used before."""
    return f"{work.job_key}-{work.fencing}-{uuid.uuid4().hex}"


class Attempt:
    """An attempt whose lease this rig holds. ``stop`` ends its training (the rig is being stopped)."""

    def __init__(
        self,
        work: Work,
        run_id: str,
        services: Services,
        settings: RigSettings,
        runner: Runner,
        report: Report,
        *,
        agent: str = "",
    ) -> None:
        self._work = work
        self._agent = agent
        self._run_id = run_id
        self._services = services
        self._settings = settings
        self._runner = runner
        self._report = report
        self._stop = threading.Event()
        self._folder = settings.folder / "attempts" / f"{work.job_key}-{work.fencing}"
        self._checkpoints = settings.folder / "checkpoints" / work.job_key
        self._cache = FileCache(settings.folder / "cache", services.blobs)
        self._keeper = Keeper(
            work,
            settings.rig,
            agent=agent,
            records=services.records,
            tasks=services.tasks,
            poll_seconds=settings.poll_seconds,
            report=report,
            on_lost=self._stop.set,
        )

    def stop(self) -> None:
        """End the training; the attempt counts as lost, so it runs again."""
        self._stop.set()

    def run(self) -> Outcome:
        """Return how the attempt ended; the outcome is committed and, if somebody waits, reported.

        Raises:
            Unavailable: it was stopped, and the control plane did not answer either.
            PermissionMissing, EnvironmentProblem: the outcome is committed, and the deployment does not
                let it be reported; repeating it may help once somebody has mended that.
        """
        self._say("attempt started")
        try:
            with self._keeper:
                outcome = self._outcome()
                if self._keeper.refused is not None:
                    outcome = _ended(AttemptState.FAILED, self._keeper.refused)
                if outcome.state is AttemptState.FAILED:
                    # Nobody listens before the training's token is there.
                    self._keeper.wait_for_token(self._settings.token_seconds)
                if self._keeper.lost.is_set():
                    outcome = Outcome(state=AttemptState.ABORTED, cause=self._keeper.cause)
                self._finish(outcome)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)
        return outcome

    def _outcome(self) -> Outcome:
        try:
            run = self._train()
            return self._judge(run)
        except (EnvironmentProblem, AttemptLost, Unavailable, OSError) as error:
            # This rig's fault (a full disk, say), not the script's: another attempt may do better.
            return _ended(AttemptState.LOST, error)
        except IsthmusError as error:
            return _ended(AttemptState.FAILED, error)

    def _train(self) -> TrainingRun:
        job, manifest = self._documents()
        training = job.source
        if not isinstance(training, Training):
            raise InvalidJob("a rig runs trainings; this job imports a model")
        self._keeper.tolerate(training.offline_tolerance_seconds)
        request = self._prepare(job, training, manifest)
        if not self._keeper.wait_for_token(self._settings.token_seconds):
            raise AttemptLost(self._keeper.cause or "the training's task token never came")
        if self._stop.is_set():
            raise AttemptLost(STOPPED)
        self._say("training started", name=request.name)
        return self._runner.run(request, self._stop)

    def _documents(self) -> tuple[Job, Manifest]:
        limit, blobs = documents.MAX_DOCUMENT_BYTES, self._services.blobs
        job = self._persistently(lambda: blobs.get(self._work.job, max_bytes=limit))
        manifest = self._persistently(lambda: blobs.get(self._work.manifest, max_bytes=limit))
        return documents.decode(Job, job, "the job"), documents.decode(Manifest, manifest, "the manifest")

    def _prepare(self, job: Job, training: Training, manifest: Manifest) -> TrainingRequest:
        """Fetch code and data, each verified by its SHA-256, into the folders of the contract."""
        shutil.rmtree(self._folder, ignore_errors=True)
        folders = Layout(self._folder)
        folders.make()
        self._keep_checkpoints(folders)
        code = self._persistently(lambda: self._cache.fetch(training.code.key, training.code.sha256))
        for file in manifest.files:
            self._place(manifest.dataset, file, folders)
        channels = {file.channel for file in manifest.files}
        return TrainingRequest(
            name=f"{job.model[:24]}-{self._work.job_key[:12]}-{self._work.fencing}",
            run_id=self._run_id,
            training=training,
            code=code,
            channels={channel: folders.data / channel for channel in channels},
            work=self._folder,
        )

    def _keep_checkpoints(self, folders: Layout) -> None:
        """Checkpoints outlive a lost attempt: the next one of the same job on this rig resumes."""
        self._checkpoints.mkdir(parents=True, exist_ok=True)
        folders.checkpoints.rmdir()
        folders.checkpoints.symlink_to(self._checkpoints.absolute(), target_is_directory=True)

    def _place(self, dataset: str, file: DatasetFile, folders: Layout) -> None:
        key = layout.dataset_folder(dataset) + (file.key or layout.blob_path(file.sha256))
        relative = file.path if "/" in file.path else f"{file.channel}/{file.path}"
        self._persistently(lambda: self._cache.place(key, file.sha256, folders.data / relative))

    def _judge(self, run: TrainingRun) -> Outcome:
        """Decide how a run ended, and upload what it left; of a stopped run nothing is kept."""
        if run.stopped:
            raise AttemptLost(STOPPED)
        prefix = layout.attempt_output(self._work.job_key, self._work.fencing)
        self._persistently(lambda: output.upload(run, prefix, self._services.blobs))
        state, cause = AttemptState.FAILED, f"exit code {run.exit_code}\n{run.tail[-MAX_CAUSE_CHARACTERS:]}"
        if run.exit_code == 0:
            state, cause = AttemptState.SUCCEEDED, ""
        return Outcome(
            state=state,
            cause=cause,
            exit_code=run.exit_code,
            output=prefix,
            metrics=run.metrics,
            seconds=round(run.seconds, 3),
        )

    def _finish(self, outcome: Outcome) -> None:
        work, rig, services = self._work, self._settings.rig, self._services
        committed = self._persistently(
            lambda: lease.commit(work.job_key, work.fencing, rig, outcome, services.records, self._agent)
        )
        self._say("attempt ended", state=outcome.state.value, cause=outcome.cause, committed=committed)
        if outcome.state in (AttemptState.SUCCEEDED, AttemptState.FAILED):
            shutil.rmtree(self._checkpoints, ignore_errors=True)
        if committed and not self._keeper.lost.is_set():
            self._tell()

    def _tell(self) -> None:
        work, reporter = self._work, self._services.reporter
        try:
            self._persistently(lambda: reporter.finished(work.job_key, work.fencing))
        except DEPLOYMENT_FAULTS as error:
            self._say("outcome committed, not reported", error=str(error))
            raise

    def _persistently(self, call: Callable[[], T]) -> T:
        return persistently(call, self._services.clock, self._stop.is_set, self._report)

    def _say(self, event: str, **fields: object) -> None:
        self._report(event, job_key=self._work.job_key, fencing=self._work.fencing, **fields)


def _ended(state: AttemptState, error: Exception) -> Outcome:
    return Outcome(state=state, cause=f"{type(error).__name__}: {error}"[-MAX_CAUSE_CHARACTERS:])
