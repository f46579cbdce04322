"""SQS, standard, as far as a rig sees it: no order, at least once, and a message that is not deleted comes back."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.simulation.network import Line
from benchmarks.simulation.scheduler import Dead, Flag, Process, Scheduler
from isthmus.model.messages import Work
from isthmus.ports import Message

VISIBILITY_SECONDS = 30.0
"""``adapters.aws.bridge.VISIBILITY_SECONDS``."""
MAX_RECEIVES = 5
MAX_MESSAGES = 10


@dataclass
class _Kept:
    work: Work
    visible_at: float
    receives: int = 0
    gone: bool = False


class Queue:
    """The service: what every line to it leads to."""

    def __init__(self, scheduler: Scheduler, *, duplicates: float, delay_seconds: float) -> None:
        self._scheduler = scheduler
        self._messages: list[_Kept] = []
        self._duplicates, self._delay_seconds = duplicates, delay_seconds
        self._arrived = Flag(scheduler)
        self.dead_letters: list[Work] = []

    def send(self, work: Work) -> None:
        lot = self._scheduler.random
        for _ in range(2 if lot.random() < self._duplicates else 1):
            delay = lot.random() * self._delay_seconds
            self._messages.append(_Kept(work, self._scheduler.now + delay))
            self._scheduler.at(delay, self._arrived.set)

    def visible(self) -> list[_Kept]:
        """Return what could be received now; what was received too often goes to the dead letters."""
        now = self._scheduler.now
        self._messages = [kept for kept in self._messages if not kept.gone]
        found = [kept for kept in self._messages if kept.visible_at <= now]
        for kept in found:
            if kept.receives >= MAX_RECEIVES:
                kept.gone = True
                self.dead_letters.append(kept.work)
        return [kept for kept in found if not kept.gone]

    def take(self) -> list[tuple[int, _Kept]]:
        """Hand out some of what is visible, not always all of it."""
        found = self.visible()
        if not found:
            return []
        lot = self._scheduler.random
        chosen = lot.sample(found, lot.randint(1, min(len(found), MAX_MESSAGES)))
        for kept in chosen:
            kept.receives += 1
            kept.visible_at = self._scheduler.now + VISIBILITY_SECONDS
            self._scheduler.at(VISIBILITY_SECONDS, self._arrived.set)
        return [(kept.receives, kept) for kept in chosen]

    def delete(self, kept: _Kept) -> None:
        """Delete it; as AWS says it may, a copy comes back now and then all the same."""
        if self._scheduler.random.random() >= self._duplicates:
            kept.gone = True

    def wait(self, seconds: float) -> list[tuple[int, _Kept]]:
        """Long polling."""
        until = self._scheduler.now + seconds
        while not (taken := self.take()) and self._scheduler.now < until:
            self._arrived.clear()
            self._arrived.wait(until - self._scheduler.now)
        return taken

    def poll(self, seconds: float) -> list[tuple[int, _Kept]]:
        """Long polling for a caller who may die meanwhile. The service does not see that: it goes on, and what it
        hands to nobody comes back after its visibility timeout."""
        until = self._scheduler.now + seconds
        try:
            return self.wait(seconds)
        except Dead:
            left = until - self._scheduler.now
            Process("poll", self._scheduler).start("poll", lambda: self._go_on(left))
            raise

    def _go_on(self, seconds: float) -> None:
        if self.wait(seconds):
            self._scheduler.trace("poll", "messages for nobody")

    def calm(self) -> None:
        """From now on each message comes once."""
        self._duplicates = 0.0


class QueueLine:
    """``ports.JobQueue`` over a line."""

    def __init__(self, queue: Queue, line: Line) -> None:
        self._queue, self._line = queue, line
        self._receipts: dict[str, _Kept] = {}

    def receive(self, *, wait_seconds: int) -> list[Message]:
        taken = self._line.call("receive", lambda: self._queue.poll(wait_seconds))
        messages = []
        for receives, kept in taken:
            receipt = f"{id(kept)}-{receives}"
            self._receipts[receipt] = kept
            messages.append(Message(receipt, kept.work))
        return messages

    def delete(self, receipt: str) -> None:
        self._line.call("delete message", lambda: self._queue.delete(self._receipts[receipt]))
