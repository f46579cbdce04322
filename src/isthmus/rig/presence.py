"""What an agent says of itself: to the table, for who asks from afar, and to CloudWatch while there is work.

The item ``RIG#<rig>`` / ``AGENT#<agent id>`` says what the agent does. It is written when that changes, and
now and then in between: an agent that was silent for longer than ``SILENT_SECONDS`` is not there. Metrics
are sent only while something waits or runs, since CloudWatch charges for each hour in which a metric gets
values (Amazon CloudWatch pricing, "Metrics").
"""

from __future__ import annotations

import datetime
import socket
from collections.abc import Callable
from typing import Literal

import msgspec

from isthmus.errors import Conflict, PermissionMissing, Unavailable
from isthmus.model import layout
from isthmus.model.units import utc_of
from isthmus.ports import Clock, Metrics, Records, Threads
from isthmus.rig.services import Report
from isthmus.rig.waiting import WaitingList
from isthmus.workflows.rig_status import SILENT_SECONDS

LOOK_SECONDS = 1.0
RUNNING_SECONDS, IDLE_SECONDS = 30.0, SILENT_SECONDS / 2
"""Between two writes that say nothing new; an idle agent costs about a cent of writes a month."""
METRICS_SECONDS = 60.0
KEPT_SECONDS = 7 * 86_400
"""How long an agent that left is still shown."""


State = Literal["idle", "running", "draining", "stopping", "left"]


class Doing(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent does: ``fencing`` counts the attempts of ``job_key``, which it has when it runs one."""

    state: State
    job_key: str = ""
    fencing: int = 0


class AgentItem(msgspec.Struct, frozen=True, kw_only=True):
    """The table's item of an agent. ``since``: when it began to do that; ``seen_at``: its last word (UTC)."""

    agent: str
    host: str
    doing: Doing
    since: str
    seen_at: str
    version: str = ""


class Presence:
    """Tells of an agent, in a thread of its own, from ``__enter__`` to ``__exit__``. ``also``: what else is told."""

    def __init__(
        self,
        rig: str,
        agent: str,
        doing: Callable[[], Doing],
        *,
        records: Records,
        clock: Clock,
        threads: Threads,
        report: Report,
        metrics: Metrics,
        waiting: WaitingList,
        gpu_use: Callable[[], float | None] = lambda: None,
        version: str = "",
        also: Callable[[], None] = lambda: None,
    ) -> None:
        self._rig, self._agent, self._doing = rig, agent, doing
        self._records, self._clock, self._threads, self._report = records, clock, threads, report
        self._metrics, self._waiting, self._gpu_use = metrics, waiting, gpu_use
        self._version, self._also = version, also
        self._closed = threads.flag()
        self._join: Callable[[], None] = lambda: None
        self._told: Doing | None = None
        self._since = self._told_at = 0.0
        self._measured_at = self._sent_at = float("-inf")
        self._was_busy = self._looked_busy = False
        self._refused: set[str] = set()

    def __enter__(self) -> Presence:
        self._join = self._threads.start("presence", self._run)
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._join()

    def _run(self) -> None:
        while not self._closed.is_set():
            self._safely("presence is not looked at", self.look)
            self._safely("crossings are not told", self._also)
            self._closed.wait(LOOK_SECONDS)
        self._tell(Doing(state="left"))

    def look(self) -> None:
        """Tell what is due: a change at once, the same again after a while, metrics every minute."""
        now, doing = self._clock.now(), self._doing()
        busy = doing.state == "running" or bool(doing.job_key)
        # A clock that was set back makes it due.
        quiet = now - self._told_at
        if doing != self._told or not 0 <= quiet < (RUNNING_SECONDS if busy else IDLE_SECONDS):
            self._tell(doing)
        # Work that begins is not left to the next minute: it might have ended by then.
        begins = busy and not self._looked_busy and not 0 <= now - self._sent_at < METRICS_SECONDS
        self._looked_busy = busy
        if begins or not 0 <= now - self._measured_at < METRICS_SECONDS:
            self._measured_at = now
            self._safely("metrics are not sent", lambda: self._measure(busy=busy))

    def _tell(self, doing: Doing) -> None:
        now = self._clock.now()
        if self._told is None or doing != self._told:
            self._since = now
        item = AgentItem(
            agent=self._agent,
            host=socket.gethostname(),
            doing=doing,
            since=utc_of(self._since),
            seen_at=utc_of(now),
            version=self._version,
        )
        place = {"pk": layout.rig_pk(self._rig), "sk": layout.agent_sk(self._agent)}
        kept = {"expires_at": int(now) + KEPT_SECONDS}
        self._told, self._told_at = doing, now
        written = self._safely(
            "presence is not told", lambda: self._records.put(place | msgspec.to_builtins(item) | kept)
        )
        if not written:
            self._told_at = float("-inf")

    def _measure(self, *, busy: bool) -> None:
        """Send what waits and runs; once more when both ended, so that the last value is none of work."""
        entries = self._waiting.in_turn()
        if not (busy or entries or self._was_busy):
            return
        self._was_busy = busy or bool(entries)
        now = utc_of(self._clock.now())
        oldest = min((entry.submitted_at for entry in entries), default=now)
        values: dict[str, float] = {
            "QueueAgeSeconds": max(0.0, _seconds_between(oldest, now)),
            "JobsWaiting": float(len(entries)),
            "JobsRunning": float(busy),
        }
        if (use := self._gpu_use()) is not None:
            values["GpuUsePercent"] = use
        self._metrics.send(values, {"rig": self._rig})
        self._sent_at = self._clock.now()

    def _safely(self, what: str, call: Callable[[], None]) -> bool:
        """Nothing that an agent says of itself may end its work; a refusal is reported once.

        False: the service was away, and the next look may find it there.
        """
        try:
            call()
        except (Unavailable, Conflict):
            return False
        except PermissionMissing as error:
            self._once(what, str(error))
        except Exception as error:  # a thread that dies of it would make the agent a silent one
            self._once(what, f"{type(error).__name__}: {error}")
        return True

    def _once(self, what: str, error: str) -> None:
        if what not in self._refused:
            self._refused.add(what)
            self._report(what, error=error)


def _seconds_between(early: str, late: str) -> float:
    begin, end = (datetime.datetime.fromisoformat(text) for text in (early, late))
    return (end - begin).total_seconds()
