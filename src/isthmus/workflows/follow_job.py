"""Where a job is: its execution's step while it runs, its record when it has ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from isthmus.model import layout
from isthmus.ports import Clock, Records

POLL_SECONDS = 1.0


class Pipeline(Protocol):
    """Executions of ``train_and_deploy`` by job key."""

    def state(self, job_key: str) -> tuple[str, list[tuple[str, float]]]:
        """Return the execution's status (empty: none yet) and its steps so far, each with the
        seconds since the start at which it was entered."""

    def retry(self, job_key: str) -> None: ...
    def stop(self, job_key: str) -> None: ...


class JobStatus(msgspec.Struct, frozen=True, kw_only=True):
    """``state``: WAITING (no execution yet), RUNNING, DEPLOYED, REJECTED, FAILED, ABORTED."""

    job_key: str
    state: str
    step: str = ""
    model: str = ""
    release: int = 0
    candidate: float | None = None
    champion: float | None = None
    reason: str = ""
    error: str = ""
    cause: str = ""
    steps: tuple[tuple[str, float], ...] = ()


def status(job_key: str, pipeline: Pipeline, records: Records) -> JobStatus:
    """Return where a job is now."""
    execution, steps = pipeline.state(job_key)
    item = records.get(layout.job_pk(job_key), layout.STATE) or {}
    evaluation = item.get("evaluation", {})
    ended = execution not in ("", "RUNNING")
    state = {"": "WAITING", "RUNNING": "RUNNING", "ABORTED": "ABORTED"}.get(
        execution, item.get("state", execution)
    )
    return JobStatus(
        job_key=job_key,
        state=str(state),
        step="" if ended or not steps else steps[-1][0],
        model=item.get("model", ""),
        release=int(item.get("release", 0)),
        candidate=evaluation.get("candidate"),
        champion=evaluation.get("champion"),
        reason=evaluation.get("reason", ""),
        error=item.get("error", "") if ended else "",
        cause=item.get("cause", "") if ended else "",
        steps=tuple(steps),
    )


def follow(
    job_key: str, pipeline: Pipeline, records: Records, clock: Clock, progress: Callable[[str, float], None]
) -> JobStatus:
    """Wait for a job's end and return how it ended; each step is told once, as it is entered."""
    told = 0
    while True:
        found = status(job_key, pipeline, records)
        for step, seconds in found.steps[told:]:
            progress(step, seconds)
        told = len(found.steps)
        if found.state not in ("WAITING", "RUNNING"):
            return found
        clock.sleep(POLL_SECONDS)
