"""``JobQueue``, ``Tasks``, ``Reporter`` and ``Clock`` in memory."""

from __future__ import annotations

import queue
import uuid
from collections.abc import Mapping
from typing import Any

from isthmus.errors import Conflict
from isthmus.model.messages import Work
from isthmus.ports import Message

MAX_MESSAGES = 10
"""Of one ``receive``, as SQS has it."""


class MemoryQueue:
    """A queue whose undeleted messages come back only when ``redeliver`` says so."""

    def __init__(self) -> None:
        self._waiting: queue.Queue[Work] = queue.Queue()
        self.in_flight: dict[str, Work] = {}

    def send(self, work: Work) -> None:
        self._waiting.put(work)

    def receive(self, *, wait_seconds: int) -> list[Message]:
        received: list[Message] = []
        while len(received) < MAX_MESSAGES:
            try:
                wait = wait_seconds if wait_seconds and not received else None
                work = self._waiting.get(block=wait is not None, timeout=wait)
            except queue.Empty:
                break
            received.append(Message(uuid.uuid4().hex, work))
            self.in_flight[received[-1].receipt] = work
        return received

    def delete(self, receipt: str) -> None:
        self.in_flight.pop(receipt, None)

    def redeliver(self) -> None:
        for receipt in list(self.in_flight):
            self._waiting.put(self.in_flight.pop(receipt))


class MemoryTasks:
    """Task tokens: ``open`` makes one wait, each answer is kept in ``answers``."""

    def __init__(self) -> None:
        self.waiting: set[str] = set()
        self.answers: dict[str, tuple[str, Any]] = {}
        self.heartbeats: dict[str, int] = {}

    def open(self, token: str) -> str:
        self.waiting.add(token)
        return token

    def close(self, token: str) -> None:
        """The task ended on its own: timed out, or its execution was stopped."""
        self.waiting.discard(token)

    def succeed(self, token: str, output: Mapping[str, Any]) -> None:
        self._take(token)
        self.answers[token] = ("succeeded", dict(output))

    def fail(self, token: str, error: str, cause: str) -> None:
        self._take(token)
        self.answers[token] = ("failed", (error, cause))

    def heartbeat(self, token: str) -> None:
        if token not in self.waiting:
            raise Conflict("the task is no longer waiting")
        self.heartbeats[token] = self.heartbeats.get(token, 0) + 1

    def _take(self, token: str) -> None:
        if token not in self.waiting:
            raise Conflict("the task is no longer waiting")
        self.waiting.discard(token)


class MemoryReporter:
    """Keeps what was reported."""

    def __init__(self) -> None:
        self.reports: list[tuple[str, int]] = []

    def finished(self, job_key: str, fencing: int) -> None:
        self.reports.append((job_key, fencing))


class ManualClock:
    """Time that moves only when somebody waits."""

    def __init__(self, start: float = 1_800_000_000.0) -> None:
        self._now = start

    def now(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        self._now += seconds
