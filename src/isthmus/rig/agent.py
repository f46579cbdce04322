"""The rig's agent: outbound connections only, one attempt at a time, nothing lost when it dies."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Literal, TypeVar

from isthmus.errors import Conflict, EnvironmentProblem, Unavailable
from isthmus.model.messages import AttemptState, Outcome, Work
from isthmus.ports import Message
from isthmus.rig import lease
from isthmus.rig.attempt import Attempt, new_run_id
from isthmus.rig.disks import check_room
from isthmus.rig.fitness import Room
from isthmus.rig.identity import agent_id, sole_agent
from isthmus.rig.intake import Intake
from isthmus.rig.prefetch import Prefetch
from isthmus.rig.presence import Doing, State
from isthmus.rig.recovery import recover
from isthmus.rig.runner import Runner
from isthmus.rig.services import Report, RigSettings, Services, persistently
from isthmus.rig.spool import Entry, Spool
from isthmus.rig.waiting import WaitingList

WITHDRAWN = Outcome(state=AttemptState.ABORTED, cause="nobody waited for this attempt when a rig took it")
STRIKE_AFTER_SECONDS = 0.25

T = TypeVar("T")


class Agent:
    """Takes work from its queue until it is told to drain.

    ``report`` gets an event's name and its fields, for a log; nothing is printed. ``when_idle`` is called now and
    then while nothing waits.
    """

    def __init__(
        self,
        settings: RigSettings,
        services: Services,
        runner: Runner,
        report: Report,
        when_idle: Callable[[], None] = lambda: None,
    ) -> None:
        self._when_idle = when_idle
        self._settings = settings
        self._services = services
        self._runner = runner
        self._report = report
        self._spool = Spool(settings.folder)
        self._id = agent_id(settings.folder)
        self._waiting = WaitingList(settings.rig, self._id, services.records, services.clock)
        self._fits = Room(settings.accelerators, report)
        self._intake = Intake(services.queue, self._waiting, report, services.threads, self._fits)
        self._settle: Callable[[], None] = lambda: None
        self._draining = services.threads.flag()
        self._stopping = services.threads.flag()
        self._attempt: Attempt | None = None

    @property
    def id(self) -> str:
        """The agent's id, which its folder keeps."""
        return self._id

    def doing(self) -> Doing:
        """Return what it does now; may be asked from any thread."""
        attempt = self._attempt
        job_key, fencing = (attempt.work.job_key, attempt.work.fencing) if attempt else ("", 0)
        state: State = "running" if attempt else "idle"
        if self._draining.is_set():
            state = "stopping" if self._stopping.is_set() else "draining"
        return Doing(state=state, job_key=job_key, fencing=fencing)

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
        with (
            sole_agent(self._settings.folder),
            contextlib.closing(self._spool),
            contextlib.closing(self._runner),
            contextlib.closing(self._intake),
        ):
            self._report("agent started", rig=self._settings.rig)
            self._persistently(self.recover)
            self._persistently(lambda: self._intake.drain(wait_seconds=self._settings.settle_seconds))
            self._intake.start(self._settings.receive_seconds)
            while not self._draining.is_set():
                # Cleared before the look at the list: what arrives after it wakes us at once. The rest of
                # the wait is for a claim of another agent that ran out.
                self._intake.arrived.clear()
                if self.step() is None and not self._draining.is_set():
                    self._wait()
            self._leave()

    def _leave(self) -> None:
        self._settle()
        if message := self._intake.handed():
            with contextlib.suppress(Unavailable):  # else it comes back
                self._intake.put_back(message)
        self._report("agent left", rig=self._settings.rig)

    def _wait(self) -> None:
        with contextlib.suppress(OSError):  # whoever starts a training meets it again, and says so
            self._runner.warm()
        if not self._intake.arrived.wait(self._settings.receive_seconds):
            self._when_idle()

    def step(self) -> Outcome | None:
        """Take the attempt whose turn it is, if one waits, and see it through to the end."""
        self._settle()
        try:
            if message := self._intake.handed():
                taken = self._take_handed(message)
            else:
                self._spool.check()
                check_room(self._settings.folder)
                if not self._intake.started:
                    self._intake.drain()
                taken = self._take()
        except Unavailable as error:
            # Whatever was half done is done again: the claim is ours until it runs out.
            self._intake.arrived.set()
            self._report("no work", error=str(error))
            self._services.clock.sleep(self._settings.poll_seconds)
            return None
        except EnvironmentProblem as error:
            # A full disk or the like. Somebody may mend it: no message's delivery is spent until then.
            self._report("no work", error=str(error))
            self._services.clock.sleep(self._settings.receive_seconds)
            return None
        return self._see_through(taken) if taken else None

    def _take(self) -> Attempt | None:
        """Take the attempt whose turn it is; who is not waited for any more is dropped."""
        while work := self._waiting.claim(self._fits):
            if attempt := self._accept(work, partial(self._waiting.remove, work)):
                return attempt
        self._intake.want()
        return None

    def _take_handed(self, message: Message) -> Attempt | None:
        """Take the attempt of a message that came by hand. Whatever is in the way, it goes on the list, or
        comes back."""
        if message.work is None:
            return None
        try:
            return self._accept(message.work, partial(self._intake.delete, message))
        except (Unavailable, EnvironmentProblem):
            self._intake.put_back(message)
            raise

    def _accept(self, work: Work, strike: Callable[[], None]) -> Attempt | None:
        """Take the lease, say so, and remember it; the order makes a crash at any point harmless.

        Before the spool has it the attempt waits on, claimed or in the queue; after it, ``recover`` ends it.
        ``strike`` takes it from where it waited, which nothing waits for: its lease says whose it is, and found
        again it is dropped. Only what is dropped would be next again.
        """
        services, settings = self._services, self._settings
        documents = Prefetch(work, services.blobs, services.threads)
        won = self._win(work)
        if won == "no":
            self._say(work, "work dropped: it was finished, superseded or withdrawn")
            strike()
            return None
        entry = Entry(job_key=work.job_key, fencing=work.fencing, run_id=new_run_id(work), work=work)
        self._spool.begin(entry)
        self._say(work, "work taken")
        self._settle = self._strike_soon(work, strike)
        return Attempt(
            work,
            entry,
            services,
            settings,
            self._runner,
            self._spool,
            self._report,
            agent=self._id,
            documents=documents,
            is_awaited=won == "answered",
        )

    def _strike_soon(self, work: Work, strike: Callable[[], None]) -> Callable[[], None]:
        """Take an attempt from where it waited; return what does it at once, if it is not done yet.

        Nothing waits for it, and the training's start has the better use for the network.
        """
        at_once = self._services.threads.flag()

        def run() -> None:
            at_once.wait(STRIKE_AFTER_SECONDS)
            try:
                self._waiting.note_turn(work.team)
                strike()
            except Exception as error:  # of any kind: it is found again, and dropped
                told = f"{type(error).__name__}: {error}"
                self._report("left where it waited", job_key=work.job_key, error=told)

        join = self._services.threads.start("taken", run)

        def settle() -> None:
            at_once.set()
            join()

        return settle

    def _say(self, work: Work, event: str) -> None:
        self._report(event, job_key=work.job_key, fencing=work.fencing, team=work.team)

    def _win(self, work: Work) -> Literal["no", "answered", "held"]:
        """Take the lease and answer the wait for a rig; return whether the attempt is this agent's now.

        ``held``: it is, and nobody knows whether the wait was answered.
        """
        rig, records = self._settings.rig, self._services.records
        taken = lease.take(work, rig, records, self._id)
        if taken == "no" or (taken == "another's" and not lease.bid(work, rig, self._id, records)):
            return "no"
        answered = self._answer(work)
        if taken == "another's":
            won = answered and self._persistently(lambda: lease.take_over(work, rig, self._id, records))
            return "answered" if won else "no"
        if taken == "again" and not answered:
            # Perhaps we answered before, in an earlier life: then the training's token comes, or the
            # attempt ends without it. Unless another agent answered, and has the lease now.
            return "held" if lease.is_held(work, rig, self._id, records) else "no"
        if not answered:
            # Found on the list again it must not look as if we had answered.
            self._persistently(lambda: self._end(work, WITHDRAWN))
        return "answered" if answered else "no"

    def _answer(self, work: Work) -> bool:
        try:
            self._services.tasks.succeed(work.token, {"rig": self._settings.rig, "fencing": work.fencing})
        except Conflict:
            return False
        return True

    def _end(self, attempt: Work, outcome: Outcome) -> None:
        rig, records = self._settings.rig, self._services.records
        lease.commit(attempt.job_key, attempt.fencing, rig, outcome, records, self._id)

    def _see_through(self, attempt: Attempt) -> Outcome | None:
        self._attempt, work = attempt, attempt.work
        if self._stopping.is_set():  # between the message and this line
            attempt.stop()
        try:
            outcome = attempt.run()
        except Unavailable as error:
            # It was stopped while the control plane was silent; the spool keeps it for ``recover``.
            self._report("attempt left open", job_key=work.job_key, fencing=work.fencing, error=str(error))
            return None
        finally:
            self._attempt = None
        return outcome

    def recover(self) -> None:
        """See to the end what an earlier agent left in the folder (``recovery.recover``)."""
        recover(
            self._spool,
            self._services,
            self._settings,
            self._report,
            agent=self._id,
            end=self._runner.end,
            stopping=self._stopping.is_set,
        )

    def _persistently(self, call: Callable[[], T]) -> T:
        return persistently(call, self._services.clock, self._stopping.is_set, self._report)
