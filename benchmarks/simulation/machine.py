"""The training half of ``statemachines/train_and_deploy.asl.json``, state by state, with its retries and catches.

The functions are the real workflows, each call in a process of its own that may die, be late, or be called again.
What of Step Functions is modelled is said in docs/adr/0029-simulation-and-chaos.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.simulation.network import Line
from benchmarks.simulation.region import Cloud, Failed, Task, TaskLine
from benchmarks.simulation.scheduler import Process
from isthmus.errors import Unavailable
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


class Stopped(Exception):
    """A person stopped the execution."""


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
        if not self.redrives:
            self.started_at = int(self._cloud.scheduler.now)
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
                self._trace("attempt lost", error=error.error)
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
        self._cloud.scheduler.trace(self._process.name, what, job=self.job_key, **fields)
