"""The model of the state machine on the wall's clock, over the endpoint's own table, bucket and queue."""

from __future__ import annotations

import contextlib
import heapq
import queue
import random
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

from greenlet import getcurrent

from benchmarks.regional import stack
from benchmarks.simulation.machine import Execution
from benchmarks.simulation.network import Bucket, Line, Weather
from benchmarks.simulation.region import Cloud
from benchmarks.simulation.scheduler import Scheduler, Strand
from isthmus import documents
from isthmus.adapters.aws.session import client
from isthmus.errors import IsthmusError
from isthmus.model.messages import Work
from isthmus.workflows.devices import RegisteredDevices
from isthmus.workflows.train_on_rig import finish_attempt

LOOK_SECONDS = 0.1
BEGIN_SECONDS = 0.2


class RealScheduler(Scheduler):
    """Wakes strands when their time has come; other threads ``ask`` for calls in its thread."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.now = time.time()
        self._asked: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = queue.SimpleQueue()
        self.notes: list[tuple[float, str, str]] = []
        """When it was, of which job, and what."""

    def trace(self, who: str, what: str, **fields: Any) -> None:
        job_key = str(fields.pop("job", ""))
        more = " ".join(f"{name}={value}" for name, value in fields.items())
        self.notes.append((time.time(), job_key, f"{what} {more}".rstrip()))

    def ask(self, call: Callable[[], Any]) -> Any:
        """Call between two strands, and return or raise what it does. From any other thread."""
        future: Future[Any] = Future()
        self._asked.put((call, future))
        return future.result()

    def run_real(self, over: Callable[[], bool]) -> None:
        """Go on until it is over."""
        self.hub = getcurrent()
        while not over():
            due = self._heap[0][0] - time.time() if self._heap else LOOK_SECONDS
            with contextlib.suppress(queue.Empty):
                self._answer(*self._asked.get(timeout=min(max(due, 0.0), LOOK_SECONDS)))
            self.now = time.time()
            while self._heap and self._heap[0][0] <= self.now:
                _, _, what, turn = heapq.heappop(self._heap)
                if isinstance(what, Strand):
                    self._switch(what, turn)
                else:
                    what()

    def _answer(self, call: Callable[[], Any], future: Future[Any]) -> None:
        self.now = time.time()
        try:
            future.set_result(call())
        except IsthmusError as error:
            future.set_exception(error)


class Messages:
    """Sends to the rig's queue, now and then twice."""

    def __init__(self, url: str, duplicates: float) -> None:
        self._url, self._duplicates, self._lot = url, duplicates, random.Random(1)
        self.duplicated = 0

    def send(self, work: Work) -> None:
        body = documents.encode(work).decode()
        for number in range(2 if self._lot.random() < self._duplicates else 1):
            self.duplicated += number
            client("sqs").send_message(QueueUrl=stack.queue_url(self._url), MessageBody=body)


class Region(Cloud):
    """What functions and executions work with; ``regional.endpoint.Control`` for the rig."""

    def records(self, line: Line) -> Any:
        return stack.stores()[0]

    def blobs(self, line: Line) -> Any:
        return stack.stores()[1]

    def end(self, token: str, kind: str, value: Any) -> None:
        self._scheduler_of().ask(lambda: self.tokens.end(token, kind, value))

    def heartbeat(self, token: str) -> None:
        self._scheduler_of().ask(lambda: self.tokens.heartbeat(token))

    def invoke(self, payload: dict[str, Any]) -> Any:
        records, _ = stack.stores()
        done = finish_attempt(payload["job_key"], payload["fencing"], records=records, tasks=_Tasks(self))
        return {"delivered": done.delivered}

    def _scheduler_of(self) -> RealScheduler:
        assert isinstance(self.scheduler, RealScheduler)
        return self.scheduler


class _Tasks:
    def __init__(self, region: Region) -> None:
        self._region = region
        self.heartbeat = region.heartbeat

    def succeed(self, token: str, output: Mapping[str, Any]) -> None:
        self._region.end(token, "succeeded", dict(output))

    def fail(self, token: str, error: str, cause: str) -> None:
        self._region.end(token, "failed", {"Error": error, "Cause": cause})


class Machine:
    """Runs executions in a thread of its own, and redrives those of which too many attempts were lost."""

    def __init__(self, url: str, keys: list[str], tolerance_seconds: float, duplicates: float) -> None:
        self._url, self._keys, self._tolerance_seconds = url, keys, tolerance_seconds
        self._messages = Messages(url, duplicates)
        self.executions: list[Execution] = []
        self.let_go = 0
        """So many of the executions may have begun."""
        self.redrives = 0
        self._begun = 0
        self.region: Region | None = None
        self._ready, self._closed = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="state machine", daemon=True)

    def __enter__(self) -> Machine:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._thread.join()

    @property
    def ended(self) -> int:
        return sum(execution.status == "SUCCEEDED" for execution in self.executions)

    @property
    def duplicated(self) -> int:
        """How many messages were sent a second time."""
        return self._messages.duplicated

    @property
    def notes(self) -> list[tuple[float, str, str]]:
        """When what happened in the state machine, and of which job."""
        assert self.region is not None
        scheduler = self.region.scheduler
        assert isinstance(scheduler, RealScheduler)
        return list(scheduler.notes)

    def _run(self) -> None:
        scheduler = RealScheduler(1)
        messages: Any = self._messages
        self.region = Region(scheduler, Weather(slow=0.0), messages, Bucket({}))
        RegisteredDevices(self.region.records(None)).register(stack.device(self._url))  # type: ignore[arg-type]
        self.executions = [Execution(key, self.region, self._tolerance_seconds) for key in self._keys]
        scheduler.at(0.0, self._begin)
        scheduler.at(1.0, self._redrive)
        self._ready.set()
        scheduler.run_real(self._closed.is_set)

    def _begin(self) -> None:
        """Start one more execution, if it may begin."""
        assert self.region is not None
        if self._begun < min(self.let_go, len(self.executions)):
            self._begun += 1
            self.executions[self._begun - 1].start()
        self.region.scheduler.at(BEGIN_SECONDS, self._begin)

    def _redrive(self) -> None:
        """What the rig's owner does when a job was killed too often (docs/path-of-a-dataset.md)."""
        assert self.region is not None
        for execution in self.executions:
            if execution.status == "FAILED" and execution.failure["Error"] == "AttemptLost":
                self.redrives += 1
                execution.redrive()
        self.region.scheduler.at(1.0, self._redrive)
