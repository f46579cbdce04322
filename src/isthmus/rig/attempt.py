"""One attempt: prepare, train, and hand its outcome to ``delivery``."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable
from typing import TypeVar

import msgspec

from isthmus import documents
from isthmus.errors import (
    AttemptLost,
    EnvironmentProblem,
    InvalidJob,
    IsthmusError,
    Unavailable,
)
from isthmus.model import layout
from isthmus.model.dataset import Manifest
from isthmus.model.job import Job, Training
from isthmus.model.messages import AttemptState, Outcome, Work
from isthmus.ports import TrainingRun
from isthmus.rig import output
from isthmus.rig.cache import FileCache
from isthmus.rig.checkpoints import checkpoints_of, why_local
from isthmus.rig.contract import Layout
from isthmus.rig.delivery import MAX_CAUSE_CHARACTERS, Delivery, attempt_folder, ended
from isthmus.rig.disks import named
from isthmus.rig.in_place import InPlaceData
from isthmus.rig.inputs import Inputs
from isthmus.rig.lease import Keeper
from isthmus.rig.mirror import Mirror
from isthmus.rig.prefetch import Prefetch
from isthmus.rig.progress import Progress
from isthmus.rig.runner import Runner, TrainingRequest
from isthmus.rig.services import Report, RigSettings, Services, persistently
from isthmus.rig.spending import Spending
from isthmus.rig.spool import Entry, Spool

STOPPED = "the rig was stopped"
NO_TOKEN = "the training's task token never came"
NO_INPUT = "the script cannot have its data"

T = TypeVar("T")


def new_run_id(work: Work) -> str:
    """Return a name for an attempt's processes that was never used before."""
    return f"{work.job_key}-{work.fencing}-{uuid.uuid4().hex}"


class Attempt:
    """An attempt whose lease this rig holds. ``stop`` ends its training (the rig is being stopped).

    ``is_awaited``: Step Functions heard that this rig has it, so the training's token will come, and the training need
    not wait for it.
    """

    def __init__(
        self,
        work: Work,
        entry: Entry,
        services: Services,
        settings: RigSettings,
        runner: Runner,
        spool: Spool,
        report: Report,
        *,
        agent: str = "",
        documents: Prefetch,
        is_awaited: bool,
    ) -> None:
        self.work = work
        self._is_awaited = is_awaited
        self._prefetch = documents
        self._run_id = entry.run_id
        self._here: InPlaceData | None = None
        self._services = services
        self._settings = settings
        self._runner = runner
        self._report = report
        self._stop = services.threads.flag()
        self._why_stopped = STOPPED
        self._leaving = services.threads.flag()
        self._folder = attempt_folder(settings, work.job_key, work.fencing)
        self._cache = FileCache(
            settings.cache_folder or settings.folder / "cache",
            services.blobs,
            limit_bytes=settings.cache_bytes,
            connections=settings.connections,
        )
        self._checkpoints = checkpoints_of(work, services, settings.folder, report)
        self._keeper = keeper(work, services, settings, report, agent=agent, on_lost=self._stop.set)
        self._progress = Progress(work, settings.rig, services, report)
        self._spending = Spending(work, settings, services, on_over=self._stop.set)
        self._delivery = Delivery(
            entry,
            work,
            services,
            settings,
            spool,
            self._keeper,
            report,
            agent=agent,
            stopping=self._leaving.is_set,
        )

    def stop(self) -> None:
        """End the training; the attempt counts as lost, so it runs again."""
        self._leaving.set()
        self._stop.set()

    def run(self) -> Outcome:
        """Return how the attempt ended; the outcome is committed and, if somebody waits, reported.

        Raises:
            Unavailable, PermissionMissing, EnvironmentProblem: as ``Delivery.run``.
        """
        self._say("attempt started")
        try:
            with self._keeper:
                outcome = self._outcome()
                if self._keeper.refused is not None:
                    outcome = ended(AttemptState.FAILED, self._keeper.refused)
                return self._delivery.run(outcome)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _outcome(self) -> Outcome:
        try:
            return self._judge(self._train())
        except (EnvironmentProblem, AttemptLost, Unavailable) as error:
            # This rig's fault, not the script's: another attempt may do better.
            return self._spending.lost(error)
        except OSError as error:  # likewise: a full disk, say
            return self._spending.lost(named(error, self._folder) or error)
        except IsthmusError as error:
            return ended(AttemptState.FAILED, error)

    def _train(self) -> TrainingRun:
        job, manifest = self._documents()
        training = job.source
        if not isinstance(training, Training):
            raise InvalidJob("a rig runs trainings; this job imports a model")
        self._keeper.tolerate(training.offline_tolerance_seconds)
        self._runner.check(training)
        inputs = self._inputs(training, manifest)
        request = self._prepare(job, training, manifest, inputs)
        with inputs.feeding(self._services.threads, self._say, self._end_unfed):
            self._await_token()
            self._say("training started", name=request.name)
            run = self._run(request)
        inputs.check(run)
        return (
            self._here.finish(run, job, Layout(self._folder), self._run_id, self._stop) if self._here else run
        )

    def _await_token(self) -> None:
        if self._is_awaited:
            self._keeper.expect_token(self._settings.token_seconds, self._end_without_token)
            return
        has_token = self._keeper.wait_for_token(self._settings.token_seconds, self._stop.is_set)
        self._go_on()
        if not has_token:
            raise AttemptLost(self._keeper.cause or NO_TOKEN)

    def _end_unfed(self) -> None:
        self._why_stopped = NO_INPUT
        self._stop.set()

    def _end_without_token(self) -> None:
        self._why_stopped = NO_TOKEN
        self._stop.set()

    def _run(self, request: TrainingRequest) -> TrainingRun:
        """Run it, and mirror its checkpoints; of a run that will go on elsewhere the last one too."""
        mirror = Mirror(
            self._checkpoints,
            self._services.threads,
            self._report,
            every_seconds=self._settings.mirror_seconds,
            still_seconds=self._settings.still_seconds,
        )
        try:
            with mirror, self._progress, self._spending:
                run = self._runner.run(request, self._stop)
            self._progress.leave(self._folder)
        except (IsthmusError, OSError):
            mirror.finish()
            raise
        if run.stopped:
            mirror.finish()
        return run

    def _documents(self) -> tuple[Job, Manifest]:
        job = self._persistently(lambda: self._prefetch.get(self.work.job))
        manifest = self._persistently(lambda: self._prefetch.get(self.work.manifest))
        return documents.decode(Job, job, "the job"), documents.decode(Manifest, manifest, "the manifest")

    def _inputs(self, training: Training, manifest: Manifest) -> Inputs:
        if manifest.in_place is not msgspec.UNSET:
            self._here = InPlaceData(
                manifest.in_place, manifest, self._settings, self._services, self._persistently, self._say
            )
        return Inputs(training, manifest, Layout(self._folder), self._cache, self._here)

    def _prepare(self, job: Job, training: Training, manifest: Manifest, inputs: Inputs) -> TrainingRequest:
        """Fetch code and data, each verified by its SHA-256, into the folders of the contract."""
        shutil.rmtree(self._folder, ignore_errors=True)
        folders = Layout(self._folder)
        folders.make()
        self._restore(manifest.dataset, folders)
        code = self._persistently(
            lambda: self._cache.fetch(training.code.key, training.code.sha256, self._go_on)
        )
        inputs.prepare(self._persistently, self._go_on)
        return TrainingRequest(
            name=f"{job.model[:24]}-{self.work.job_key[:12]}-{self.work.fencing}",
            run_id=self._run_id,
            training=training,
            code=code,
            channels=inputs.channels,
            work=self._folder,
            on_line=self._progress.take,
            reads=inputs.reads,
            withholds=self._here is not None,
        )

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise AttemptLost(self._keeper.cause or self._why_stopped)

    def _restore(self, dataset: str, folders: Layout) -> None:
        """Go on from the job's newest checkpoint, whichever rig made it."""
        self._checkpoints.ask = lambda: self._why_local(dataset)
        self._persistently(self._checkpoints.restore)
        folders.checkpoints.rmdir()
        folders.checkpoints.symlink_to(self._checkpoints.folder.absolute(), target_is_directory=True)

    def _why_local(self, dataset: str) -> str:
        """Return why checkpoints may not go to the bucket, or an empty text. Asked where the bytes would
        move: the policy may have changed since the plan.

        Raises:
            Unavailable: the table did not answer.
        """
        reason = why_local(self._services.records, dataset, self._settings.bucket_zone)
        if reason:
            self._say("checkpoints stay on this rig", reason=reason)
        return reason

    def _judge(self, run: TrainingRun) -> Outcome:
        """Decide how a run ended; of a stopped run nothing is kept but its checkpoints."""
        if run.stopped:
            raise AttemptLost(self._why_stopped)
        state, cause = AttemptState.FAILED, f"exit code {run.exit_code}\n{run.tail[-MAX_CAUSE_CHARACTERS:]}"
        if run.exit_code == 0:
            state, cause = AttemptState.SUCCEEDED, ""
        return Outcome(
            state=state,
            cause=cause,
            exit_code=run.exit_code,
            output=layout.attempt_output(self.work.job_key, self.work.fencing),
            metrics=run.metrics,
            seconds=round(run.seconds, 3),
            withheld=run.withheld,
            fetched_bytes=self._cache.fetched_bytes,
            output_bytes=sum(path.stat().st_size for _, path in output.files(self._folder)),
        )

    def _persistently(self, call: Callable[[], T]) -> T:
        return persistently(call, self._services.clock, self._stop.is_set, self._report)

    def _say(self, event: str, **fields: object) -> None:
        self._report(event, job_key=self.work.job_key, fencing=self.work.fencing, **fields)


def keeper(
    work: Work,
    services: Services,
    settings: RigSettings,
    report: Report,
    *,
    agent: str,
    on_lost: Callable[[], None],
) -> Keeper:
    """Return what keeps an attempt's lease alive, once it is entered."""
    return Keeper(
        work,
        settings.rig,
        agent=agent,
        records=services.records,
        tasks=services.tasks,
        threads=services.threads,
        poll_seconds=settings.poll_seconds,
        report=report,
        on_lost=on_lost,
    )
