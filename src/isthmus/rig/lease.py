"""The lease on an attempt: who may commit its outcome, and the thread that keeps it alive.

The lease is the item ``JOB#<job key>`` / ``LEASE``. A higher fencing number always wins; its holder
alone can commit. Of several agents of one rig, that is the one whom it names. The training's task token
is written into it once Step Functions waits for the training; from then on the token needs a heartbeat
within the job's ``offline_tolerance_seconds``.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from isthmus import documents
from isthmus.errors import Conflict, InvalidDocument, PermissionMissing, Unavailable
from isthmus.model import layout
from isthmus.model.messages import AttemptState, Outcome, Work
from isthmus.ports import Item, Records, Tasks, Threads
from isthmus.rig.services import Report

Taken = Literal["fresh", "again", "another's", "no"]

FIRST = 1
"""The fencing number of a job's first attempt."""
FIRST_LOOK_SECONDS = 0.1
"""The training's token mostly follows at once; each look that does not find it doubles the wait."""
BEATS_PER_TOLERANCE = 3
"""Two heartbeats may be lost before the third, still in time, arrives."""
MAX_BEAT_SECONDS = 10.0
"""However long a job tolerates silence: a person's stop is heard at the next heartbeat."""
TRIES = 10
"""A lease under commit changes when the training's token comes, when it is given up or taken over: a few times."""


def take(work: Work, rig: str, records: Records, agent: str = "") -> Taken:
    """Take the lease of an attempt.

    Returns ``again`` when this agent holds it already and has not finished (it died, or the list did not
    answer), ``another's`` when another agent of this rig holds it so: call ``bid``, then answer the wait for
    a rig; who can still answer it calls ``take_over``, and nobody else. ``no``: the attempt was finished or
    superseded.
    """
    values = _fields(work, rig, agent)
    # A job's first attempt mostly finds no lease: to create one is the lighter of the two writes.
    if work.fencing == FIRST and records.create(
        {"pk": layout.job_pk(work.job_key), "sk": layout.LEASE, **values}
    ):
        return "fresh"
    try:
        records.update(layout.job_pk(work.job_key), layout.LEASE, values, below={"fencing": work.fencing})
    except Conflict:
        item = read(work.job_key, records)
        if not _held(item, work.fencing, rig):
            return "no"
        if _is_sent_again(work, item):
            return _take_anew(work, values, item, records)
        if work.sending < _sending(item):
            return (
                "no"  # its token is void, and the later message, for which it was taken, waits or comes back
            )
        if item.get("outcome"):
            return "no"
        return "again" if _names(item, agent) else "another's"
    return "fresh"


def _fields(work: Work, rig: str, agent: str) -> dict[str, Any]:
    return {
        "fencing": work.fencing,
        "rig": rig,
        "agent": agent,
        "bidder": "",
        "redrives": work.redrives,
        "retries": work.retries,
        "state": AttemptState.LEASED.value,
        "token": "",
        "outcome": None,
    }


def _is_sent_again(work: Work, item: Item) -> bool:
    """Whether the state machine waits by a later message than the lease was taken for. No training began
    then: its token comes once the wait is answered."""
    return work.sending > _sending(item) and not item.get("token")


def _sending(item: Item) -> tuple[int, int]:
    return item.get("redrives", 0), item.get("retries", 0)


def _take_anew(work: Work, values: Item, item: Item, records: Records) -> Taken:
    """Take a lease of which nothing came, whatever was committed for it."""
    expect = {"fencing": work.fencing, "rig": item["rig"], "token": item.get("token")}
    try:
        records.update(layout.job_pk(work.job_key), layout.LEASE, values, expect=expect)
    except Conflict:
        return "no"
    return "fresh"


def bid(work: Work, rig: str, agent: str, records: Records) -> bool:
    """Say in a lease that another agent of this rig left that this one is about to answer its wait; return whether the
    lease is still open. The other one, back, would otherwise take that answer for one of its own, and both would train.
    """
    expect = {"fencing": work.fencing, "rig": rig, "outcome": None}
    try:
        records.update(layout.job_pk(work.job_key), layout.LEASE, {"bidder": agent}, expect=expect)
    except Conflict:
        return False
    return True


def take_over(work: Work, rig: str, agent: str, records: Records) -> bool:
    """Put this agent's name into a lease that another agent of its rig left; whom it does not name can
    neither keep nor commit it. Return whether it was still open; may be repeated."""
    held_by = read(work.job_key, records).get("agent")
    expect = {"fencing": work.fencing, "rig": rig, "agent": held_by, "outcome": None}
    try:
        records.update(layout.job_pk(work.job_key), layout.LEASE, {"agent": agent}, expect=expect)
    except Conflict:
        return False
    return True


def is_held(work: Work, rig: str, agent: str, records: Records) -> bool:
    """Return whether the lease is this attempt's, names this agent, and nobody else has bid for it."""
    item = read(work.job_key, records)
    return _held(item, work.fencing, rig) and _names(item, agent) and item.get("bidder", "") in ("", agent)


def read(job_key: str, records: Records) -> Item:
    """Return a job's lease, empty if it never had one."""
    return records.get(layout.job_pk(job_key), layout.LEASE) or {}


def _held(item: Item, fencing: int, rig: str) -> bool:
    return bool(item.get("fencing") == fencing and item.get("rig") == rig)


def _names(item: Item, agent: str) -> bool:
    """Leases of the first version name no agent: a rig had one."""
    return bool(item.get("agent", agent) == agent)


def commit(job_key: str, fencing: int, rig: str, outcome: Outcome, records: Records, agent: str = "") -> bool:
    """Write the outcome on condition that the lease is still ours, has none, and was not given up.

    Returns whether the lease holds *this* outcome now: a repeated call, whose first answer was lost,
    finds its own and says yes. Once the next attempt is planned (``plan_training`` marks the lease LOST)
    nothing is committed: nobody would apply it, and the next taker would write over it.

    Raises:
        Unavailable: somebody changed the lease between our reads and writes, again and again.
    """
    plain: dict[str, Any] = msgspec.to_builtins(outcome)
    values = {"outcome": plain, "state": outcome.state.value}
    for _ in range(TRIES):
        item = read(job_key, records)
        if not _held(item, fencing, rig) or not _names(item, agent):
            return False
        if item.get("outcome"):
            return is_told(item["outcome"], outcome)
        if is_given_up(item):
            return False
        expect = {name: item.get(name) for name in ("fencing", "rig", "agent", "state", "outcome")}
        with contextlib.suppress(Conflict):
            records.update(layout.job_pk(job_key), layout.LEASE, values, expect=expect)
            return True
    raise Unavailable(f"the lease of job {job_key} was changed at each of {TRIES} tries to commit to it")


def is_told(told: object, outcome: Outcome) -> bool:
    """Whether what a lease holds is this outcome. A table has decimal numbers, and whole ones come back as int
    (``adapters.aws.records``): only what is read as an outcome again can be compared."""
    try:
        return bool(told) and documents.convert(Outcome, told, "the outcome") == outcome
    except InvalidDocument:
        return False


def is_given_up(item: Item) -> bool:
    """Whether the state machine waits for this attempt no more, and plans or planned another."""
    return item.get("state") == AttemptState.LOST.value and not item.get("outcome")


class Keeper:
    """Waits for the training's token, then keeps it alive, in a thread of its own.

    ``lost`` is set when the attempt is not ours any more; ``cause`` then says why, and ``superseded`` whether
    somebody else has it, or will: else Step Functions only said that it waits no more, which can be a
    person's stop (``verdict.why_lost``). ``refused``: this rig may not keep it, for want of a permission.
    Being offline never loses it: only an answer does. Until ``tolerate`` is called it beats at every poll.
    """

    def __init__(
        self,
        work: Work,
        rig: str,
        *,
        agent: str = "",
        records: Records,
        tasks: Tasks,
        threads: Threads,
        poll_seconds: float,
        report: Report,
        on_lost: Callable[[], None],
    ) -> None:
        self._work = work
        self._rig = rig
        self._agent = agent
        self._records = records
        self._tasks = tasks
        self._poll_seconds = poll_seconds
        self._beat_seconds = poll_seconds
        self._patience = math.inf
        self._on_missing: Callable[[], None] = lambda: None
        self._report = report
        self._on_lost = on_lost
        self._threads = threads
        self._closed = threads.flag()
        self._join: Callable[[], None] = lambda: None
        self.token = threads.flag()
        self.lost = threads.flag()
        self.superseded = False
        self.refused: PermissionMissing | None = None
        self.cause = ""

    def __enter__(self) -> Keeper:
        self._join = self._threads.start(f"lease-{self._work.job_key[:8]}", self._run)
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._join()

    def tolerate(self, seconds: float) -> None:
        """Beat as often as the job's ``offline_tolerance_seconds`` asks for."""
        self._beat_seconds = min(seconds / BEATS_PER_TOLERANCE, MAX_BEAT_SECONDS)

    def expect_token(self, seconds: float, on_missing: Callable[[], None]) -> None:
        """Call ``on_missing``, once, when the training's token is not there after so many seconds of looking."""
        self._patience, self._on_missing = seconds, on_missing

    def wait_for_token(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Wait until the training's token is there, the attempt is lost, or ``until`` says so, which is asked
        every second; return whether the token is there."""
        left = seconds
        while not self.token.is_set() and left > 0 and not until():
            self.token.wait(min(1.0, left))
            left -= 1.0
        return self.token.is_set() and not self.lost.is_set()

    def _run(self) -> None:
        look_seconds = min(FIRST_LOOK_SECONDS, self._poll_seconds)
        # Step Functions heard of this attempt a moment ago: its token is a function's start away.
        if self._closed.wait(look_seconds):
            return
        while not self.lost.is_set():
            answered = True
            try:
                self._step()
            except Exception as error:
                # Whatever it is (no route, a throttled table, a bug below): a training is not given up
                # for it. If it lasts longer than the tolerance, Step Functions decides.
                answered = False
                self._report("heartbeat failed", job_key=self._work.job_key, error=str(error))
            if self._closed.wait(self._beat_seconds if self.token.is_set() else look_seconds):
                return
            if answered and not self.token.is_set():
                self._miss(look_seconds)
            look_seconds = min(2 * look_seconds, self._poll_seconds)

    def _miss(self, seconds: float) -> None:
        was, self._patience = self._patience, self._patience - seconds
        if was > 0 >= self._patience:
            self._on_missing()

    def _step(self) -> None:
        """One look at the lease and, once there is a token, one heartbeat."""
        item = read(self._work.job_key, self._records)
        if not _held(item, self._work.fencing, self._rig):
            by = f"attempt {item.get('fencing')} of rig {item.get('rig')} holds the lease"
            self._lose(by, superseded=True)
        elif not _names(item, self._agent):
            self._lose(f"agent {item['agent']} of this rig took the attempt over", superseded=True)
        elif is_given_up(item):
            self._lose(item.get("cause") or "Step Functions plans another attempt", superseded=True)
        elif token := item.get("token"):
            try:
                self._tasks.heartbeat(token)
            except Conflict as error:
                self._lose(f"Step Functions no longer waits for this attempt: {error}")
            except PermissionMissing as error:
                # Silence would end the attempt too, much later and without the reason.
                self.refused = error
                self._on_lost()
            self.token.set()

    def _lose(self, cause: str, *, superseded: bool = False) -> None:
        self.cause, self.superseded = cause, superseded
        self.lost.set()
        self.token.set()  # wakes who waits for it; ``lost`` says the rest
        self._on_lost()
