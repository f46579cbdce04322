"""The region: task tokens, and functions that are called as processes of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.simulation.network import Blobs, Bucket, Line, Records, Weather
from benchmarks.simulation.queueing import Queue
from benchmarks.simulation.scheduler import Flag, Process, Scheduler
from isthmus.adapters.local.records import MemoryRecords
from isthmus.errors import Conflict, IsthmusError, Unavailable

FUNCTION_SECONDS = 60.0
"""A function's ``Timeout``, and the states' ``TimeoutSeconds``: what runs longer is ended, and no answer comes."""


@dataclass
class Task:
    """A state that waits for its token."""

    token: str
    ended: Flag
    beat_at: float
    waiting: bool = True
    result: tuple[str, Any] = ("", None)

    def end(self, kind: str, value: Any) -> None:
        """Raises Conflict when nobody waits, as SendTaskSuccess and its like do (TaskTimedOut, TaskDoesNotExist)."""
        if not self.waiting:
            raise Conflict("the task is no longer waiting")
        self.waiting, self.result = False, (kind, value)
        self.ended.set()


class Tokens:
    """Every token that was ever handed out."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._tasks: dict[str, Task] = {}

    def open(self, name: str) -> Task:
        token = f"{name}-{len(self._tasks)}"
        self._tasks[token] = Task(token, Flag(self._scheduler), self._scheduler.now)
        return self._tasks[token]

    def heartbeat(self, token: str) -> None:
        if not self._tasks[token].waiting:
            raise Conflict("the task is no longer waiting")
        self._tasks[token].beat_at = self._scheduler.now

    def end(self, token: str, kind: str, value: Any) -> None:
        self._tasks[token].end(kind, value)


class TaskLine:
    """``ports.Tasks`` over a line."""

    def __init__(self, tokens: Tokens, line: Line) -> None:
        self._tokens, self._line = tokens, line

    def succeed(self, token: str, output: Mapping[str, Any]) -> None:
        self._line.call(f"succeed {token}", lambda: self._tokens.end(token, "succeeded", dict(output)))

    def fail(self, token: str, error: str, cause: str) -> None:
        self._line.call(
            f"fail {token}", lambda: self._tokens.end(token, "failed", {"Error": error, "Cause": cause})
        )

    def heartbeat(self, token: str) -> None:
        self._line.call(f"heartbeat {token}", lambda: self._tokens.heartbeat(token))


class Failed(Exception):
    """A state failed: its error's name and cause."""

    def __init__(self, error: str, cause: str = "") -> None:
        super().__init__(error)
        self.error, self.cause = error, cause


@dataclass
class Cloud:
    """The region: the services, and functions that are called in it."""

    scheduler: Scheduler
    weather: Weather
    queue: Queue
    bucket: Bucket
    table: MemoryRecords = field(default_factory=MemoryRecords)
    deaths: float = 0.0
    calls: int = 0

    def __post_init__(self) -> None:
        self.tokens = Tokens(self.scheduler)
        self.published: list[str] = []

    def line(self, process: Process) -> Line:
        """Return a function's way to the services: inside the region, but not above every trouble."""
        return Line(process, self.weather)

    def call(self, name: str, work: Callable[[Line], Any]) -> Any:
        """Call a function and wait for it, in a strand.

        Raises:
            Failed: the function raised, died, or its answer did not come in time; it may have done all its work.
        """
        self.calls += 1
        process = Process(f"{name}-{self.calls}", self.scheduler)
        process.may_die = lambda where: self.scheduler.random.random() < self.deaths
        answer: list[Any] = []

        def run() -> None:
            try:
                answer.append(work(self.line(process)))
            except IsthmusError as error:
                answer.append(Failed(type(error).__name__, str(error)))

        crashed: list[Exception] = []
        process.failed = lambda strand, error: crashed.append(error)
        process.start(name, run)
        self.scheduler.at(FUNCTION_SECONDS, process.kill)
        process.strands[0].ended.wait(FUNCTION_SECONDS)
        if crashed:
            raise AssertionError(f"{name} raised {crashed[0]!r}") from crashed[0]
        if not answer or self.scheduler.random.random() < self.weather.lost_answers:
            raise Failed("Lambda.SdkClientException")
        if isinstance(answer[0], Failed):
            raise answer[0]
        return answer[0]

    def call_for_rig(self, name: str, work: Callable[[Line], Any]) -> None:
        """Call a function as ``adapters.aws.bridge.LambdaReporter`` does: Conflict is no news to a rig."""
        try:
            self.call(name, work)
        except Failed as error:
            if error.error != Conflict.__name__:
                raise Unavailable(f"{name} failed: {error.error}") from error

    def records(self, line: Line) -> Records:
        return Records(self.table, line)

    def blobs(self, line: Line) -> Blobs:
        return Blobs(self.bucket, line)

    def publish(self, kind: str, detail: Mapping[str, Any]) -> None:
        """``ports.Events``."""
        self.published.append(kind)
