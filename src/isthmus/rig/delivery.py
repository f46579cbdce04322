"""How an attempt's end reaches the control plane: kept, sent, committed, reported; or kept as an orphan.

Each step may be the last one before a death, and the next life repeats it: an outcome is in the spool and
its files in ``results`` before anything is sent, and both go when the report was heard.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from isthmus.errors import (
    DEPLOYMENT_FAULTS,
    DigestMismatch,
    EnvironmentProblem,
    IsthmusError,
    Unavailable,
)
from isthmus.model.messages import AttemptState, Outcome, Work
from isthmus.model.units import utc_of
from isthmus.rig import lease, orphans, output
from isthmus.rig.checkpoints import checkpoints_of
from isthmus.rig.lease import Keeper
from isthmus.rig.services import Report, RigSettings, Services, persistently
from isthmus.rig.spool import Entry, Orphan, Spool
from isthmus.rig.verdict import why_lost

MAX_CAUSE_CHARACTERS = 8_000
"""Of an outcome's cause: it travels in a table item and in Step Functions' error (32,768 characters)."""
NOT_OURS = "the lease is not this attempt's any more"

T = TypeVar("T")


def ended(state: AttemptState, error: Exception) -> Outcome:
    """Return the outcome of an attempt that an error ended."""
    cause = f"{type(error).__name__}: {error}"[-MAX_CAUSE_CHARACTERS:]
    # A file's name need not be UTF-8, and no document could hold a message that quotes it.
    return Outcome(state=state, cause=cause.encode("utf-8", "replace").decode())


def attempt_folder(settings: RigSettings, job_key: str, fencing: int) -> Path:
    """Where an attempt works."""
    return settings.folder / "attempts" / f"{job_key}-{fencing}"


def result_folder(settings: RigSettings, job_key: str, fencing: int) -> Path:
    """Where what an attempt left waits to be delivered."""
    return settings.folder / "results" / f"{job_key}-{fencing}"


class Delivery:
    """Delivers one attempt's outcome while ``keeper`` keeps its lease alive. ``stopping``: the rig leaves now."""

    def __init__(
        self,
        entry: Entry,
        work: Work,
        services: Services,
        settings: RigSettings,
        spool: Spool,
        keeper: Keeper,
        report: Report,
        *,
        agent: str,
        stopping: Callable[[], bool],
    ) -> None:
        self._entry = entry
        self._work = work
        self._services = services
        self._settings = settings
        self._spool = spool
        self._keeper = keeper
        self._report = report
        self._agent = agent
        self._stopping = stopping
        self._again = entry.outcome is not None
        self._results = result_folder(settings, work.job_key, work.fencing)

    def run(self, outcome: Outcome) -> Outcome:
        """Return what the attempt counts as in the end.

        Raises:
            Unavailable: the rig is stopped, and the control plane does not answer: the spool keeps it.
            PermissionMissing, EnvironmentProblem: the outcome is committed, and the deployment does not let
                it be reported; repeating it may help once somebody has mended that.
        """
        self._remember(outcome)
        # Asked before the keeper is: of what was applied already, a heartbeat says that nobody waits for it.
        before = self._again and self._persistently(lambda: self._is_committed(outcome))
        if not before:
            if outcome.state in (AttemptState.FAILED, AttemptState.ABORTED):
                # Nobody listens before the training's token is there.
                self._keeper.wait_for_token(self._settings.token_seconds, self._stopping)
            outcome = self._sent(outcome)
            if self._keeper.lost.is_set():
                return self._after_loss(outcome, self._why())
            outcome, committed = self._committed(outcome)
            if not committed:
                return self._after_loss(outcome, self._why(NOT_OURS))
        self._say("attempt ended", state=outcome.state.value, cause=outcome.cause, committed=True)
        if before or not self._keeper.lost.is_set():
            self._tell()
        self._forget(outcome, committed=True)
        return outcome

    def _is_committed(self, outcome: Outcome) -> bool:
        """Whether an earlier life sent and committed it."""
        item = lease.read(self._work.job_key, self._services.records)
        ours = item.get("fencing") == self._work.fencing
        return ours and lease.is_told(item.get("outcome"), outcome)

    # ------------------------------------------------------------------ kept

    def _remember(self, outcome: Outcome) -> None:
        """Keep the outcome, then its files, where the next life finds them."""
        here = attempt_folder(self._settings, self._work.job_key, self._work.fencing)
        try:
            if outcome.output and not self._results.exists():
                output.secure(here, outcome.metrics)
            self._entry = self._spool.end(self._entry, outcome)
            if outcome.output:
                self._move()
        except (EnvironmentProblem, OSError) as error:
            # A full disk, say. It can still be delivered in this life.
            self._say("outcome not remembered", error=str(error))

    def _move(self) -> None:
        """Take the files from where the attempt's end removes them."""
        here = attempt_folder(self._settings, self._work.job_key, self._work.fencing)
        if not self._results.exists():
            self._results.parent.mkdir(parents=True, exist_ok=True)
            os.replace(here, self._results)

    def _folder(self) -> Path:
        here = attempt_folder(self._settings, self._work.job_key, self._work.fencing)
        return self._results if self._results.exists() else here

    # ------------------------------------------------------------------ sent, committed, reported

    def _sent(self, outcome: Outcome) -> Outcome:
        """Upload the files; return the outcome, or what it becomes when they cannot be sent."""
        if not outcome.output or self._keeper.lost.is_set():
            return outcome
        try:
            self._persistently(lambda: self._upload(outcome), or_lost=True)
        except Unavailable:
            if not self._keeper.lost.is_set():
                raise
        except (EnvironmentProblem, DigestMismatch, OSError) as error:
            outcome = ended(AttemptState.LOST, error)
            self._remember(outcome)
        except Exception as error:
            # Whatever a script left there (a name that no key can have, say), no later life can send it either.
            outcome = ended(AttemptState.FAILED, error)
            self._remember(outcome)
        return outcome

    def _upload(self, outcome: Outcome) -> None:
        output.upload(self._folder(), outcome.metrics, outcome.output, self._services.blobs)

    def _committed(self, outcome: Outcome) -> tuple[Outcome, bool]:
        """Commit the outcome, or why no table takes it; return what it is, and whether the lease has it."""
        try:
            return outcome, self._commit(outcome)
        except (Unavailable, *DEPLOYMENT_FAULTS):
            raise
        except Exception as error:
            outcome = ended(AttemptState.FAILED, error)
            self._remember(outcome)
            return outcome, self._commit(outcome)

    def _commit(self, outcome: Outcome) -> bool:
        work, rig, records = self._work, self._settings.rig, self._services.records
        return self._persistently(
            lambda: lease.commit(work.job_key, work.fencing, rig, outcome, records, self._agent)
        )

    def _tell(self) -> None:
        work, reporter = self._work, self._services.reporter
        try:
            self._persistently(lambda: reporter.finished(work.job_key, work.fencing))
        except DEPLOYMENT_FAULTS as error:
            self._say("outcome committed, not reported", error=str(error))
            raise

    # ------------------------------------------------------------------ not ours any more

    def _why(self, told: str = "") -> Outcome:
        if self._keeper.superseded:
            return Outcome(state=AttemptState.LOST, cause=self._keeper.cause)
        wait_seconds = 0.0 if told else self._settings.mark_seconds
        told = told or self._keeper.cause
        services = self._services
        return self._persistently(
            lambda: why_lost(self._work, services.records, services.clock, wait_seconds, told)
        )

    def _after_loss(self, outcome: Outcome, verdict: Outcome) -> Outcome:
        """Nobody waits for the attempt: a person stopped it, or another has its place."""
        kept = outcome.state is AttemptState.SUCCEEDED and verdict.state is AttemptState.LOST
        if kept:
            self._orphan(outcome, verdict.cause)
        committed = self._commit(verdict)
        self._say(
            "attempt ended",
            state=verdict.state.value,
            cause=verdict.cause,
            committed=committed,
            orphan=kept,
        )
        self._forget(verdict, committed=committed, keep_files=kept)
        return verdict

    def _orphan(self, outcome: Outcome, cause: str) -> None:
        try:
            self._move()
        except OSError as error:
            self._say("orphan left where it was", error=str(error))
        orphan = Orphan(
            job_key=self._work.job_key,
            fencing=self._work.fencing,
            rig=self._settings.rig,
            cause=cause,
            since=utc_of(self._services.clock.now()),
            path=str(self._folder().absolute()),
            metrics=outcome.metrics,
            seconds=outcome.seconds,
        )
        self._spool.keep(orphan)
        try:
            self._persistently(lambda: orphans.tell(orphan, self._spool, self._services.records))
        except Unavailable:
            raise
        except IsthmusError as error:
            # A stack of before rigs had a place in its table, or a policy that lets nothing be told: whoever starts
            # next tries again.
            self._say("orphan not told", error=str(error))

    # ------------------------------------------------------------------ over

    def _forget(self, outcome: Outcome, *, committed: bool, keep_files: bool = False) -> None:
        """The spool's entry goes first: without its files it would say that there are some."""
        if outcome.state in (AttemptState.SUCCEEDED, AttemptState.FAILED):
            folder = self._settings.folder
            checkpoints = checkpoints_of(self._work, self._services, folder, self._report)
            checkpoints.discard(committed=committed)
        if not keep_files and not self._results.exists():
            # Not remembered: a script that filled the disk gives its room back before the spool needs some.
            here = attempt_folder(self._settings, self._work.job_key, self._work.fencing)
            shutil.rmtree(here, ignore_errors=True)
        self._spool.remove(self._entry)
        if not keep_files:
            shutil.rmtree(self._results, ignore_errors=True)

    def _persistently(self, call: Callable[[], T], *, or_lost: bool = False) -> T:
        def give_up() -> bool:
            return self._stopping() or (or_lost and self._keeper.lost.is_set())

        return persistently(call, self._services.clock, give_up, self._report)

    def _say(self, event: str, **fields: object) -> None:
        self._report(event, job_key=self._work.job_key, fencing=self._work.fencing, **fields)
