"""``follow_job.Pipeline`` in memory: executions that a test moves on."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from isthmus.errors import NotRedrivable, Refused
from isthmus.model.execution import Run, Visit


class MemoryPipeline:
    """``script`` holds what each following look at a job sees; the last look repeats."""

    def __init__(self) -> None:
        self.script: dict[str, list[Run | None]] = {}
        self.others: dict[str, Run] = {}
        """Executions that states started, by their ARN."""
        self.stopped: dict[str, str] = {}
        """Job key to the cause that was given."""
        self.retried: list[str] = []
        self.redriven: list[str] = []

    def run(self, job_key: str) -> Run | None:
        looks = self.script.get(job_key, [None])
        return looks.pop(0) if len(looks) > 1 else looks[0]

    def nested(self, arn: str) -> Run:
        return self.others[arn]

    def recent(self) -> Iterator[Run]:
        runs = [looks[0] for looks in self.script.values()]
        for run in sorted((run for run in runs if run), key=lambda run: -run.started_at):
            yield msgspec.structs.replace(run, visits=())

    def state(self, arn: str) -> str:
        runs = [looks[0] for looks in self.script.values()]
        return next(run.state for run in runs if run and run.arn == arn)

    def retry(self, job_key: str) -> None:
        if self._existing(job_key).status == "RUNNING":
            raise Refused(f"job {job_key} runs; stop it first")
        self.retried.append(job_key)

    def redrive(self, job_key: str) -> None:
        run = self._existing(job_key)
        if run.status in ("RUNNING", "SUCCEEDED"):
            raise NotRedrivable(f"Execution is {run.status} and cannot be redriven")
        self.redriven.append(job_key)

    def stop(self, job_key: str, cause: str) -> None:
        run = self._existing(job_key)
        if run.status != "RUNNING":
            raise Refused(f"job {job_key} does not run: it ended {run.status}")
        self.stopped[job_key] = cause

    def _existing(self, job_key: str) -> Run:
        run = self.run(job_key)
        if run is None:
            raise Refused(f"there is no job {job_key}")
        return run


def run_of(name: str, status: str, *visits: Visit, **more: object) -> Run:
    """Return an execution that began at the epoch."""
    values = {"name": name, "arn": f"arn:aws:states:eu-west-1:0:execution:m:{name}", "started_at": 0.0}
    return msgspec.convert({**values, "status": status, "visits": visits, **more}, Run)
