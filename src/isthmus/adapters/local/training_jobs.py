"""``TrainingJobs`` in memory."""

from __future__ import annotations

import dataclasses

from isthmus.ports import TrainingJobStatus


class MemoryTrainingJobs:
    """Jobs by name; a test puts them there, as the state machine does."""

    def __init__(self) -> None:
        self.jobs: dict[str, TrainingJobStatus] = {}

    def describe(self, name: str) -> TrainingJobStatus | None:
        return self.jobs.get(name)

    def stop(self, name: str) -> None:
        job = self.jobs[name]
        if not job.ended:
            passed = (*job.passed, "Stopping", "Stopped")
            self.jobs[name] = dataclasses.replace(job, status="Stopped", secondary="Stopped", passed=passed)
