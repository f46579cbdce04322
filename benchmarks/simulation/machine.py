"""The training half of ``statemachines/train_and_deploy.asl.json``, state by state, with its retries and catches.

The functions are the real workflows, each call in a process of its own that may die, be late, or be called again.
What of Step Functions is modelled, and from where in its guide, is said in docs/adr/0029-simulation-and-chaos.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.simulation.network import Blobs, Bucket, Line, Records, Weather
from benchmarks.simulation.queueing import Queue
from benchmarks.simulation.scheduler import Flag, Process, Scheduler
from isthmus.adapters.local.records import MemoryRecords
from isthmus.errors import Conflict, IsthmusError, Unavailable
from isthmus.model import layout
from isthmus.model.execution import Ending
from isthmus.model.messages import Work
from isthmus.model.units import utc_of
from isthmus.workflows.devices import RegisteredDevices
from isthmus.workflows.plan_training import Planned, check_lost, loss, plan_training
from isthmus.workflows.record_outcome import from_status_change, record_outcome
from isthmus.workflows.train_on_rig import train_on_rig

INTERVAL_SECONDS, BACKOFF, MAX_ATTEMPTS = 2.0, 2.0, 5
"""Of the functions' Retry."""
SENDS = 4
FUNCTION_SECONDS = 60.0


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


class Stopped(Exception):
    """A person stopped the execution."""


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


RETRIED = frozenset({"Lambda.SdkClientException", Unavailable.__name__})


class Execution:
    """One job's execution, and its redrives."""

    def __init__(self, job_key: str, cloud: Cloud, tolerance_seconds: float) -> None:
        self.job_key = job_key
        self.status = "RUNNING"
        self.failure: dict[str, str] = {"Error": "", "Cause": ""}
        self.attempts = 0
        self.redrives = 0
        self.state = "PlanTraining"
        self.applied: list[dict[str, Any]] = []
        self.planned: Planned | None = None
        self.recorded = 0
        self.started_at = int(cloud.scheduler.now)
        self._cloud = cloud
        self._tolerance_seconds = tolerance_seconds
        self._task: Task | None = None
        self._stopping = False
        self._process = Process(f"sfn-{job_key[:4]}", cloud.scheduler)
        self._process.failed = self._broke
        self.fault: Exception | None = None
        self.sent_at = float("inf")
        """When its first message was sent."""

    def start(self) -> None:
        """Run until it ends."""
        self._process.start("execution", self._run)

    def stop(self) -> None:
        """StopExecution."""
        if self.status == "RUNNING":
            self._stopping = True
            if self._task is not None and self._task.waiting:
                self._task.end("stopped", None)

    def redrive(self) -> None:
        """RedriveExecution: go on in the state that failed."""
        if self.status in ("FAILED", "ABORTED"):
            self.redrives += 1
            self.status, self._stopping = "RUNNING", False
            self._tell()
            self.start()

    def _broke(self, strand: str, error: Exception) -> None:
        self.fault = error

    def _run(self) -> None:
        try:
            self._go_on()
        except Stopped:
            self.status = "ABORTED"
        except Failed as error:
            self.status = "FAILED"
            self.failure = {"Error": error.error, "Cause": error.cause}
        else:
            self.status = "SUCCEEDED"
        self._trace(self.status, at=self.state)
        self._tell()

    def _go_on(self) -> None:
        """The states, from the one that failed last; the end is the training's success."""
        taken = False
        if self.state == "TrainOnRig":
            taken = True
        while True:
            if self.state == "PlanTraining":
                self.planned = self._retried("plan", self._plan)
                self.state = "WaitForRig"
            if not taken:
                self._wait_for_rig()
            taken, self.state = False, "TrainOnRig"
            try:
                self.applied.append(self._train())
                return
            except Failed as error:
                if error.error not in ("States.HeartbeatTimeout", "AttemptLost"):
                    raise
                self.failure = {"Error": error.error, "Cause": error.cause}
            self.attempts += 1
            self.state = "PlanTraining"

    def _plan(self, line: Line) -> Planned:
        check_lost(self.attempts, self.redrives, self.failure)
        records = self._cloud.records(line)
        return plan_training(
            self.job_key,
            submitted_at=utc_of(self.started_at),
            after_loss=loss(self.attempts, self.failure),
            blobs=self._cloud.blobs(line),
            records=records,
            devices=RegisteredDevices(records),
        )

    def _wait_for_rig(self) -> None:
        assert self.planned is not None
        lot = self._cloud.scheduler.random
        deadline = self._cloud.scheduler.now + self.planned.queue_deadline_seconds
        for retries in range(SENDS):
            task = self._cloud.tokens.open(f"wait-{self.job_key[:4]}")
            self._cloud.queue.send(self._message(task.token, retries))
            self.sent_at = min(self.sent_at, self._cloud.scheduler.now)
            if lot.random() < self._cloud.weather.lost_answers:
                task.waiting = False  # Sqs.SdkClientException: the message may be there, its token is void
                self._pause(INTERVAL_SECONDS * BACKOFF**retries)
                continue
            self._await(task, deadline, None)
            return
        raise Failed("Sqs.SdkClientException")

    def _message(self, token: str, retries: int) -> Work:
        assert self.planned is not None
        self._trace("message sent", fencing=self.planned.fencing, token=token)
        return Work(
            job_key=self.job_key,
            fencing=self.planned.fencing,
            job=layout.registered_job(self.job_key),
            manifest=layout.registered_manifest(self.job_key),
            token=token,
            execution=self.job_key,
            team=self.planned.team,
            submitted_at=self.planned.submitted_at,
            started_at=utc_of(self.started_at),
            redrives=self.redrives,
            retries=retries,
        )

    def _train(self) -> dict[str, Any]:
        """A retry of the state waits by another token: the one before is void."""
        assert self.planned is not None
        planned = self.planned

        def attempt() -> dict[str, Any]:
            task = self._cloud.tokens.open(f"train-{self.job_key[:4]}")
            now = self._cloud.scheduler.now

            def hand_out(line: Line) -> None:
                train_on_rig(
                    self.job_key,
                    planned.fencing,
                    task.token,
                    records=self._cloud.records(line),
                    tasks=TaskLine(self._cloud.tokens, line),
                )

            self._task = task
            try:
                self._cloud.call("train_on_rig", hand_out)
            except Failed:
                if task.waiting:  # an answer that came before counts
                    task.waiting = False
                    raise
            return self._await(task, now + planned.deadline_seconds, self._tolerance_seconds)

        return self._with_retries(attempt)

    def _await(self, task: Task, deadline: float, heartbeat_seconds: float | None) -> Any:
        self._task, scheduler = task, self._cloud.scheduler
        if self._stopping:
            task.waiting = False
            raise Stopped
        while task.waiting:
            silent_at = deadline if heartbeat_seconds is None else task.beat_at + heartbeat_seconds
            until = min(deadline, silent_at)
            if scheduler.now >= until:
                task.waiting = False
                raise Failed("States.HeartbeatTimeout" if until < deadline else "States.Timeout")
            task.ended.wait(until - scheduler.now)
        kind, value = task.result
        if kind == "stopped":
            raise Stopped
        if kind == "failed":
            raise Failed(value["Error"], value["Cause"])
        return value

    def _retried(self, name: str, work: Callable[[Line], Any]) -> Any:
        return self._with_retries(lambda: self._cloud.call(name, work))

    def _with_retries(self, call: Callable[[], Any]) -> Any:
        for number in range(MAX_ATTEMPTS + 1):
            try:
                return call()
            except Failed as error:
                if error.error not in RETRIED or number == MAX_ATTEMPTS:
                    raise
            self._pause(self._cloud.scheduler.random.random() * INTERVAL_SECONDS * BACKOFF**number)
        raise AssertionError

    def _pause(self, seconds: float) -> None:
        if self._stopping:
            raise Stopped
        self._cloud.scheduler.pause(seconds)
        if self._stopping:
            raise Stopped

    def _tell(self) -> None:
        """EventBridge: late, perhaps twice, until the function took it."""
        detail = self._detail()
        lot = self._cloud.scheduler.random
        process = Process(f"events-{self.job_key[:4]}", self._cloud.scheduler)
        process.failed = self._broke

        def tell() -> None:
            self._cloud.scheduler.pause(lot.expovariate(1 / 2.0))
            for _ in range(2 if lot.random() < 0.2 else 1):
                self._record(detail)

        process.start("event", tell)

    def _detail(self) -> dict[str, Any]:
        started = self.started_at * 1000
        told = {
            "name": self.job_key,
            "status": self.status,
            "startDate": started,
            "redriveCount": self.redrives,
        }
        if self.status == "FAILED":
            told |= {"error": self.failure["Error"], "cause": self.failure["Cause"]}
        return told

    def _record(self, detail: dict[str, Any]) -> None:
        if detail["status"] == "SUCCEEDED":
            return  # the state RecordDeployed says it, at the path's end
        change = from_status_change(detail, Ending(state=self.state))

        def record(line: Line) -> None:
            now = utc_of(self._cloud.scheduler.now)
            record_outcome(change, records=self._cloud.records(line), events=self._cloud, now=now)

        while True:
            try:
                self._cloud.call("record_outcome", record)
                self.recorded += 1
                return
            except Failed:
                self._cloud.scheduler.pause(5.0)

    def _trace(self, what: str, **fields: Any) -> None:
        self._cloud.scheduler.trace(self._process.name, what, **fields)
