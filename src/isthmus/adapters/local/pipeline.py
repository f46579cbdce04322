"""``follow_job.Pipeline`` in memory: executions that a test moves on."""

from __future__ import annotations

from isthmus.errors import Refused


class MemoryPipeline:
    """``script`` holds what each following look at a job sees; the last look repeats."""

    def __init__(self) -> None:
        self.script: dict[str, list[tuple[str, list[tuple[str, float]]]]] = {}
        self.stopped: list[str] = []
        self.retried: list[str] = []

    def state(self, job_key: str) -> tuple[str, list[tuple[str, float]]]:
        looks = self.script.get(job_key, [("", [])])
        return looks.pop(0) if len(looks) > 1 else looks[0]

    def retry(self, job_key: str) -> None:
        if self.state(job_key)[0] not in ("FAILED", "ABORTED", "TIMED_OUT"):
            raise Refused(f"job {job_key} cannot be run again: it has not failed")
        self.retried.append(job_key)

    def stop(self, job_key: str) -> None:
        if self.state(job_key)[0] != "RUNNING":
            raise Refused(f"job {job_key} cannot be stopped: it does not run")
        self.stopped.append(job_key)
