"""Where a job is, by its execution's history; what it scored, by its record."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

import msgspec

from isthmus.errors import Unavailable
from isthmus.model import layout
from isthmus.model.approval import Approval
from isthmus.model.execution import Run
from isthmus.ports import Clock, Item, Records
from isthmus.workflows.approve_model import approval_of
from isthmus.workflows.attempts import AttemptStatus, newest_attempt
from isthmus.workflows.explain_failure import explain

T = TypeVar("T")

POLL_SECONDS = 2.5
PATIENT_LOOKS = 120
"""How many looks in a row may fail of what passes: five minutes."""
SHOWN_TYPES = frozenset({"Task", "Succeed", "Fail"})
"""States that only move values around are no news to who follows a job."""


class Pipeline(Protocol):
    """Executions of ``train_and_deploy`` by job key. Each call raises Refused when there is no such job,
    but ``run``."""

    def run(self, job_key: str) -> Run | None:
        """Return the job's newest execution with its visits; None: there is none yet."""

    def nested(self, arn: str) -> Run:
        """Return an execution that a state started, with its visits."""

    def recent(self) -> Iterator[Run]:
        """Yield executions without their visits, the newest first."""

    def state(self, arn: str) -> str:
        """Return the state that an execution entered last."""

    def retry(self, job_key: str) -> None:
        """Start the job anew. Raises Refused when it runs."""

    def redrive(self, job_key: str) -> None:
        """Go on in the state that did not succeed. Raises NotRedrivable."""

    def stop(self, job_key: str, cause: str) -> None:
        """Stop the execution. Raises Refused when it does not run."""


class JobStatus(msgspec.Struct, frozen=True, kw_only=True):
    """``state``: WAITING (no execution yet), RUNNING, DEPLOYED, REJECTED, FAILED, ABORTED. ``training`` is
    the newest attempt, in ``status`` alone. ``approval``: what people were asked, and said."""

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
    redrives: int = 0
    training: AttemptStatus | None = None
    approval: Approval | None = None


def status(job_key: str, pipeline: Pipeline, records: Records) -> JobStatus:
    """Return where a job is now."""
    item = records.get(layout.job_pk(job_key), layout.STATE) or {}
    found = status_of(job_key, pipeline.run(job_key), item)
    return msgspec.structs.replace(found, training=newest_attempt(job_key, records))


def status_of(job_key: str, run: Run | None, item: Item) -> JobStatus:
    """Return what a job's execution and its record say together."""
    evaluation = item.get("evaluation", {})
    error, cause = failure_of(run, item)
    visits = [visit for visit in (run.visits if run else ()) if visit.type in SHOWN_TYPES]
    running = run is not None and run.status == "RUNNING"
    return JobStatus(
        job_key=job_key,
        state=state_of(run.status if run else "", item),
        step=visits[-1].state if running and visits else "",
        model=item.get("model", ""),
        release=int(item.get("release", 0)),
        candidate=evaluation.get("candidate"),
        champion=evaluation.get("champion"),
        reason=evaluation.get("reason", ""),
        error=error,
        cause=cause,
        steps=tuple((visit.state, visit.entered_seconds) for visit in visits),
        redrives=run.redrives if run else 0,
        approval=approval_of(item, run.arn) if run else None,
    )


def state_of(execution: str, item: Item) -> str:
    """Return a job's state by its execution's status; of one that succeeded the record says which success.

    The record of a failure follows its execution by an event: the execution knows first.
    """
    known = {"": "WAITING", "RUNNING": "RUNNING", "ABORTED": "ABORTED", "FAILED": "FAILED"}
    known["TIMED_OUT"] = "FAILED"
    return known.get(execution) or str(item.get("state", execution))


def failure_of(run: Run | None, item: Item) -> tuple[str, str]:
    """Return the error and the explained cause of an execution that did not succeed; else two empty texts."""
    if run is None or run.status in ("RUNNING", "SUCCEEDED"):
        return "", ""
    if not run.error and item.get("state") == state_of(run.status, item):
        return item.get("error", ""), item.get("cause", "")
    return explain({"Error": run.error, "Cause": run.cause, "At": run.state})


def follow(
    job_key: str, pipeline: Pipeline, records: Records, clock: Clock, progress: Callable[[str, float], None]
) -> JobStatus:
    """Wait for a job's end and return how it ended; each step is told once, as it is entered."""
    told = 0

    def look() -> JobStatus:
        nonlocal told
        found = status(job_key, pipeline, records)
        for step, seconds in found.steps[told:]:
            progress(step, seconds)
        told = len(found.steps)
        return found

    return until_ended(look, lambda found: found.state, clock)


def until_ended(look: Callable[[], T], state: Callable[[T], str], clock: Clock) -> T:
    """Look again and again until the state is one of an end; return the last look.

    Raises:
        Unavailable: the first look failed, or more than ``PATIENT_LOOKS`` in a row did.
    """
    patience = 0
    while True:
        try:
            found = look()
        except Unavailable:
            if not patience:
                raise
            patience -= 1
        else:
            patience = PATIENT_LOOKS
            if state(found) not in ("WAITING", "RUNNING"):
                return found
        clock.sleep(POLL_SECONDS)
