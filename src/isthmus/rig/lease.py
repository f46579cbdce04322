"""The lease on an attempt: who may commit its outcome, and the thread that keeps it alive.

The lease is the item ``JOB#<job key>`` / ``LEASE``. A higher fencing number always wins; its holder
alone can commit. Of several agents of one rig, that is the one whom it names. The training's task token
is written into it once Step Functions waits for the training; from then on the token needs a heartbeat
within the job's ``offline_tolerance_seconds``.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from isthmus.errors import Conflict, PermissionMissing
from isthmus.model import layout
from isthmus.model.messages import AttemptState, Outcome, Work
from isthmus.ports import Item, Records, Tasks

Taken = Literal["fresh", "again", "another's", "no"]
Report = Callable[..., None]

FIRST_LOOK_SECONDS = 0.1
"""The training's token mostly follows at once; each look that does not find it doubles the wait."""
BEATS_PER_TOLERANCE = 3
"""Two heartbeats may be lost before the third, still in time, arrives."""


def take(work: Work, rig: str, records: Records, agent: str = "") -> Taken:
    """Take the lease of an attempt.

    Returns ``again`` when this agent holds it already and has not finished (it died, or the list did not
    answer), ``another's`` when another agent of this rig holds it so: who can still answer the wait for a
    rig then calls ``take_over``, and nobody else. ``no``: the attempt was finished or superseded.
    """
    values = _fields(work, rig, agent)
    try:
        records.update(layout.job_pk(work.job_key), layout.LEASE, values, below={"fencing": work.fencing})
    except Conflict:
        item = read(work.job_key, records)
        if not _held(item, work.fencing, rig):
            return "no"
        if _is_sent_again(work, item):
            return _take_anew(work, values, item, records)
        if item.get("outcome"):
            return "no"
        return "again" if _names(item, agent) else "another's"
    return "fresh"


def _fields(work: Work, rig: str, agent: str) -> dict[str, Any]:
    return {
        "fencing": work.fencing,
        "rig": rig,
        "agent": agent,
        "redrives": work.redrives,
        "retries": work.retries,
        "state": AttemptState.LEASED.value,
        "token": "",
        "outcome": None,
    }


def _is_sent_again(work: Work, item: Item) -> bool:
    """Whether the state machine waits by a later message than the lease was taken for. No training began
    then: its token comes once the wait is answered."""
    return work.sending > (item.get("redrives", 0), item.get("retries", 0)) and not item.get("token")


def _take_anew(work: Work, values: Item, item: Item, records: Records) -> Taken:
    """Take a lease of which nothing came, whatever was committed for it."""
    expect = {"fencing": work.fencing, "rig": item["rig"], "token": item.get("token")}
    try:
        records.update(layout.job_pk(work.job_key), layout.LEASE, values, expect=expect)
    except Conflict:
        return "no"
    return "fresh"


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
    """Return whether the lease is this attempt's, and names this agent."""
    item = read(work.job_key, records)
    return _held(item, work.fencing, rig) and _names(item, agent)


def read(job_key: str, records: Records) -> Item:
    """Return a job's lease, empty if it never had one."""
    return records.get(layout.job_pk(job_key), layout.LEASE) or {}


def _held(item: Item, fencing: int, rig: str) -> bool:
    return bool(item.get("fencing") == fencing and item.get("rig") == rig)


def _names(item: Item, agent: str) -> bool:
    """Leases of the first version name no agent: a rig had one."""
    return bool(item.get("agent", agent) == agent)


def commit(job_key: str, fencing: int, rig: str, outcome: Outcome, records: Records, agent: str = "") -> bool:
    """Write the outcome on condition that the lease is still ours and has none.

    Returns whether the lease holds *this* outcome now: a repeated call, whose first answer was lost,
    finds its own and says yes.
    """
    plain: dict[str, Any] = msgspec.to_builtins(outcome)
    values = {"outcome": plain, "state": outcome.state.value}
    for named in (agent, None):  # None: as in ``_names``
        expect = {"fencing": fencing, "rig": rig, "outcome": None, "agent": named}
        with contextlib.suppress(Conflict):
            records.update(layout.job_pk(job_key), layout.LEASE, values, expect=expect)
            return True
    item = read(job_key, records)
    return _held(item, fencing, rig) and _names(item, agent) and item.get("outcome") == plain


class Keeper:
    """Waits for the training's token, then keeps it alive, in a thread of its own.

    ``lost`` is set when the attempt is not ours any more; ``cause`` then says why. ``refused``: this rig
    may not keep it, for want of a permission. Being offline never
    loses it: only an answer does. Until ``tolerate`` is called it beats at every poll.
    """

    def __init__(
        self,
        work: Work,
        rig: str,
        *,
        agent: str = "",
        records: Records,
        tasks: Tasks,
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
        self._report = report
        self._on_lost = on_lost
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"lease-{work.job_key[:8]}", daemon=True)
        self.token = threading.Event()
        self.lost = threading.Event()
        self.refused: PermissionMissing | None = None
        self.cause = ""

    def __enter__(self) -> Keeper:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._thread.join()

    def tolerate(self, seconds: float) -> None:
        """Beat no more often than the job's ``offline_tolerance_seconds`` asks for."""
        self._beat_seconds = seconds / BEATS_PER_TOLERANCE

    def wait_for_token(self, seconds: float) -> bool:
        """Wait until the training's token is there, or the attempt is lost; return whether it is there."""
        return self.token.wait(seconds) and not self.lost.is_set()

    def _run(self) -> None:
        look_seconds = min(FIRST_LOOK_SECONDS, self._poll_seconds)
        while not self.lost.is_set():
            try:
                self._step()
            except Exception as error:
                # Whatever it is (no route, a throttled table, a bug below): a training is not given up
                # for it. If it lasts longer than the tolerance, Step Functions decides.
                self._report("heartbeat failed", job_key=self._work.job_key, error=str(error))
            if self._closed.wait(self._beat_seconds if self.token.is_set() else look_seconds):
                return
            look_seconds = min(2 * look_seconds, self._poll_seconds)

    def _step(self) -> None:
        """One look at the lease and, once there is a token, one heartbeat."""
        item = read(self._work.job_key, self._records)
        if not _held(item, self._work.fencing, self._rig):
            self._lose(f"attempt {item.get('fencing')} of rig {item.get('rig')} holds the lease")
        elif not _names(item, self._agent):
            self._lose(f"agent {item['agent']} of this rig took the attempt over")
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

    def _lose(self, cause: str) -> None:
        self.cause = cause
        self.lost.set()
        self.token.set()  # wakes who waits for it; ``lost`` says the rest
        self._on_lost()
