"""The rig's agent: outbound connections only, one attempt at a time, nothing lost when it dies."""

from __future__ import annotations

import signal
import threading

from isthmus.errors import Conflict, InvalidDocument, Unavailable
from isthmus.model.messages import AttemptState, Outcome, Work
from isthmus.rig import lease, warden
from isthmus.rig.attempt import Attempt, RigSettings, Runner, Services, new_run_id, persistently
from isthmus.rig.journal import Entry, Journal
from isthmus.rig.lease import Report, Taken


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
        self._draining = threading.Event()
        self._stopping = threading.Event()
        self._attempt: Attempt | None = None

    def drain(self) -> None:
        """Finish the attempt at hand, take no other, and leave."""
        self._draining.set()

    def stop(self) -> None:
        """Leave now: the attempt at hand is stopped and counts as lost, so it runs again."""
        self._draining.set()
        self._stopping.set()
        if self._attempt is not None:
            self._attempt.stop()

    def run(self) -> None:
        """Work until drained."""
        self._report("agent started", rig=self._settings.rig)
        self._persistently_recover()
        while not self._draining.is_set():
            self.step()
        self._report("agent left", rig=self._settings.rig)

    def step(self) -> Outcome | None:
        """Take one message if there is one, and see its attempt through to the end."""
        try:
            received = self._services.queue.receive(wait_seconds=self._settings.receive_seconds)
            run_id = self._accept(*received) if received else None
        except (Unavailable, InvalidDocument) as error:
            # Whatever was half done is done again when the message comes back; one that nobody can
            # read ends in the queue's dead-letter queue.
            self._report("no work", error=str(error))
            self._services.clock.sleep(self._settings.poll_seconds)
            return None
        if received is None or run_id is None:
            return None
        return self._see_through(received[0], run_id)

    def _accept(self, work: Work, receipt: str) -> str | None:
        """Take the lease, say so, and remember it; the order makes a crash at any point harmless.

        Before the journal is written the message comes back; after it, ``recover`` ends the attempt.
        """
        taken = lease.take(work, self._settings.rig, self._services.records)
        run_id = None
        if taken != "no" and self._still_wanted(work, taken):
            run_id = new_run_id(work)
            self._journal.write(Entry(job_key=work.job_key, fencing=work.fencing, run_id=run_id))
        self._services.queue.delete(receipt)
        event = "work taken" if run_id else "work dropped: it was finished, superseded or withdrawn"
        self._report(event, job_key=work.job_key, fencing=work.fencing)
        return run_id

    def _still_wanted(self, work: Work, taken: Taken) -> bool:
        """Answer the wait for a rig.

        A redelivered message's wait was perhaps answered by us before: then the training's token
        comes, or the attempt ends without it.
        """
        answer = {"rig": self._settings.rig, "fencing": work.fencing}
        try:
            self._services.tasks.succeed(work.token, answer)
        except Conflict:
            return taken == "again"
        return True

    def _see_through(self, work: Work, run_id: str) -> Outcome | None:
        self._attempt = Attempt(work, run_id, self._services, self._settings, self._runner, self._report)
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
        rig, records = self._settings.rig, self._services.records
        lost = Outcome(state=AttemptState.LOST, cause="the rig's agent ended while it ran this attempt")
        lease.commit(entry.job_key, entry.fencing, rig, lost, records)
        item = lease.read(entry.job_key, records)
        if item.get("fencing") == entry.fencing and item.get("outcome"):
            self._services.reporter.finished(entry.job_key, entry.fencing)
        self._journal.clear()
        self._report("recovered", job_key=entry.job_key, fencing=entry.fencing, killed=killed)

    def _persistently_recover(self) -> None:
        persistently(self.recover, self._services.clock, self._stopping.is_set, self._report)


def obey_signals(agent: Agent) -> None:
    """Drain at the first SIGTERM or SIGINT, stop at the second. To be called in the main thread."""
    seen: list[int] = []

    def handler(number: int, frame: object) -> None:
        (agent.stop if seen else agent.drain)()
        seen.append(number)

    signal.signal(signal.SIGTERM, handler)
    signal.signal(signal.SIGINT, handler)
