"""The rig's agent: outbound connections only, one attempt at a time, nothing lost when it dies."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable
from typing import TypeVar

from isthmus.errors import Conflict, Unavailable
from isthmus.model.messages import AttemptState, Outcome, Work
from isthmus.rig import lease, warden
from isthmus.rig.attempt import Attempt, RigSettings, Runner, Services, new_run_id, persistently
from isthmus.rig.identity import agent_id, sole_agent
from isthmus.rig.intake import Intake
from isthmus.rig.journal import Entry, Journal
from isthmus.rig.lease import Report
from isthmus.rig.waiting import WaitingList

WITHDRAWN = Outcome(state=AttemptState.ABORTED, cause="nobody waited for this attempt when a rig took it")
DIED = Outcome(state=AttemptState.LOST, cause="the rig's agent ended while it ran this attempt")

T = TypeVar("T")


class Agent:
    """Takes work from its queue until it is told to drain.

    ``report`` gets an event's name and its fields, for a log; nothing is printed.
    """

    def __init__(self, settings: RigSettings, services: Services, runner: Runner, report: Report) -> None:
        self._settings = settings
        self._services = services
        self._runner = runner
        self._report = report
        self._journal = Journal(settings.folder / "journal.json")
        self._id = agent_id(settings.folder)
        self._waiting = WaitingList(settings.rig, self._id, services.records, services.clock)
        self._intake = Intake(services.queue, self._waiting, report)
        self._draining = threading.Event()
        self._stopping = threading.Event()
        self._attempt: Attempt | None = None

    def drain(self) -> None:
        """Finish the attempt at hand, take no other, and leave."""
        self._draining.set()
        self._intake.close()

    def stop(self) -> None:
        """Leave now: the attempt at hand is stopped and counts as lost, so it runs again."""
        self._stopping.set()
        self.drain()
        if self._attempt is not None:
            self._attempt.stop()

    def run(self) -> None:
        """Work until drained.

        Raises:
            EnvironmentProblem: another agent works in the same folder.
            PermissionMissing, EnvironmentProblem: a fault of the deployment. It would end any other attempt
                like this one, so no other is taken; an outcome not reported is reported by the next ``run``.
        """
        with sole_agent(self._settings.folder), contextlib.closing(self._intake):
            self._report("agent started", rig=self._settings.rig)
            self._persistently(self.recover)
            self._persistently(lambda: self._intake.drain(wait_seconds=self._settings.settle_seconds))
            self._intake.start(self._settings.receive_seconds)
            while not self._draining.is_set():
                # Cleared before the look at the list: what arrives after it wakes us at once. The rest of
                # the wait is for a claim of another agent that ran out.
                self._intake.arrived.clear()
                if self.step() is None and not self._draining.is_set():
                    self._intake.arrived.wait(self._settings.receive_seconds)
            self._report("agent left", rig=self._settings.rig)

    def step(self) -> Outcome | None:
        """Take the attempt whose turn it is, if one waits, and see it through to the end."""
        try:
            self._intake.drain()
            taken = self._take()
        except Unavailable as error:
            # Whatever was half done is done again: the claim is ours until it runs out.
            self._intake.arrived.set()
            self._report("no work", error=str(error))
            self._services.clock.sleep(self._settings.poll_seconds)
            return None
        return self._see_through(*taken) if taken else None

    def _take(self) -> tuple[Work, str] | None:
        """Take the attempt whose turn it is, with its run id; who is not waited for any more is dropped."""
        while work := self._waiting.claim():
            run_id = self._accept(work)
            if run_id is not None:
                return work, run_id
        return None

    def _accept(self, work: Work) -> str | None:
        """Take the lease, say so, and remember it; the order makes a crash at any point harmless.

        Before the journal is written the attempt waits on, claimed; after it, ``recover`` ends it.
        """
        run_id = None
        if self._win(work):
            run_id = new_run_id(work)
            self._journal.write(Entry(job_key=work.job_key, fencing=work.fencing, run_id=run_id))
        event = "work taken" if run_id else "work dropped: it was finished, superseded or withdrawn"
        self._report(event, job_key=work.job_key, fencing=work.fencing, team=work.team)
        self._strike(work, taken=run_id is not None)
        return run_id

    def _strike(self, work: Work, *, taken: bool) -> None:
        """Take it off the list. Raises Unavailable for what was dropped: it would be next again."""
        try:
            if taken:
                self._waiting.note_turn(work.team)
            self._waiting.remove(work)
        except Unavailable as error:
            if not taken:
                raise
            # Its lease says whose it is: found again, it is dropped.
            self._report("left on the waiting list", job_key=work.job_key, error=str(error))

    def _win(self, work: Work) -> bool:
        """Take the lease and answer the wait for a rig; return whether the attempt is this agent's now."""
        rig, records = self._settings.rig, self._services.records
        taken = lease.take(work, rig, records, self._id)
        if taken == "no":
            return False
        answered = self._answer(work)
        if taken == "another's":
            return answered and self._persistently(lambda: lease.take_over(work, rig, self._id, records))
        if taken == "again":
            # Perhaps we answered before, in an earlier life: then the training's token comes, or the
            # attempt ends without it. Unless another agent answered, and has the lease now.
            return answered or lease.is_held(work, rig, self._id, records)
        if not answered:
            # Found on the list again it must not look as if we had answered.
            self._persistently(lambda: self._end(work, WITHDRAWN))
        return answered

    def _answer(self, work: Work) -> bool:
        try:
            self._services.tasks.succeed(work.token, {"rig": self._settings.rig, "fencing": work.fencing})
        except Conflict:
            return False
        return True

    def _end(self, attempt: Work | Entry, outcome: Outcome) -> None:
        rig, records = self._settings.rig, self._services.records
        lease.commit(attempt.job_key, attempt.fencing, rig, outcome, records, self._id)

    def _see_through(self, work: Work, run_id: str) -> Outcome | None:
        self._attempt = Attempt(
            work, run_id, self._services, self._settings, self._runner, self._report, agent=self._id
        )
        if self._stopping.is_set():  # between the message and this line
            self._attempt.stop()
        try:
            outcome = self._attempt.run()
        except Unavailable as error:
            # It was stopped while the control plane was silent; the journal stays for ``recover``.
            self._report("attempt left open", job_key=work.job_key, fencing=work.fencing, error=str(error))
            return None
        finally:
            self._attempt = None
        self._journal.clear()
        return outcome

    def recover(self) -> None:
        """End the attempt that an earlier agent left: kill what still runs, commit, report.

        An outcome that was committed, but perhaps not reported, is reported.
        """
        entry = self._journal.read()
        if entry is None:
            return
        killed = warden.kill_run(entry.run_id)
        self._end(entry, DIED)
        item = lease.read(entry.job_key, self._services.records)
        if item.get("fencing") == entry.fencing and item.get("outcome"):
            self._services.reporter.finished(entry.job_key, entry.fencing)
        self._journal.clear()
        self._report("recovered", job_key=entry.job_key, fencing=entry.fencing, killed=killed)

    def _persistently(self, call: Callable[[], T]) -> T:
        return persistently(call, self._services.clock, self._stopping.is_set, self._report)


def obey_signals(agent: Agent) -> None:
    """Drain at the first SIGTERM or SIGINT, stop at the second. To be called in the main thread."""
    seen: list[int] = []

    def handler(number: int, frame: object) -> None:
        (agent.stop if seen else agent.drain)()
        seen.append(number)

    signal.signal(signal.SIGTERM, handler)
    signal.signal(signal.SIGINT, handler)
