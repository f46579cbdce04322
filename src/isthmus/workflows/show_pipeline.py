"""All that there is to see of a pipeline: its states, attempts, plan, scores and reasons."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import msgspec

from isthmus import documents
from isthmus.errors import InvalidDocument, MissingFile, NotRedrivable, Refused
from isthmus.model import layout
from isthmus.model.execution import Run, Visit
from isthmus.model.ledger import Entry
from isthmus.model.plan import Plan
from isthmus.model.units import utc_of
from isthmus.ports import BlobStore, Item, Records
from isthmus.workflows.approve_model import ASKING
from isthmus.workflows.attempts import AttemptStatus, newest_attempt
from isthmus.workflows.follow_job import JobStatus, Pipeline, state_of, status_of
from isthmus.workflows.keep_ledger import read_job
from isthmus.workflows.record_outcome import JOB_KEY_CHARACTERS


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """A job in a list. ``step`` is where it is, or where it ended unsuccessfully; ``since`` is when it
    began, was redriven last, or ended (UTC); ``attempt`` counts its trainings; ``waits_for``: ``approval``, or
    nothing."""

    job_key: str
    model: str
    dataset: str
    state: str
    step: str
    since: str
    attempt: int
    redrives: int
    waits_for: str = ""


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """A pipeline in full. ``nested`` maps an execution's ARN to its visits; ``metrics`` is what the
    training printed as ``name=value``, while it runs as of ``told_at`` (UTC); ``link`` leads to the
    execution in AWS's console; ``training`` is where the newest attempt is, and why; ``costs``: of each
    attempt, estimated and settled."""

    job: JobStatus
    dataset: str = ""
    execution: str = ""
    link: str = ""
    visits: tuple[Visit, ...] = ()
    nested: dict[str, tuple[Visit, ...]] = {}
    attempt: int = 0
    training: AttemptStatus | None = None
    plan: Plan | None = None
    metrics: dict[str, float] = {}
    told_at: str = ""
    costs: tuple[Entry, ...] = ()
    not_redrivable: str = ""


def list_pipelines(
    pipeline: Pipeline, records: Records, *, state: str = "", model: str = "", limit: int = 20
) -> list[Summary]:
    """Return the newest jobs first, at most ``limit``; of a job that was retried only the newest execution."""
    newest: dict[str, Run] = {}
    found = ((run, _record(run, records)) for run in pipeline.recent() if _is_first(run, newest))
    wanted = (
        (run, item)
        for run, item in found
        if state in ("", state_of(run.status, item)) and model in ("", item.get("model", ""))
    )
    # Each summary costs a look at the execution's history: only what is asked for gets one.
    return [_summary(run, item, pipeline, records) for run, item in itertools.islice(wanted, limit)]


def _is_first(run: Run, seen: dict[str, Run]) -> bool:
    return seen.setdefault(run.name[:JOB_KEY_CHARACTERS], run) is run


def _record(run: Run, records: Records) -> Item:
    return records.get(layout.job_pk(run.name[:JOB_KEY_CHARACTERS]), layout.STATE) or {}


def _summary(run: Run, item: Item, pipeline: Pipeline, records: Records) -> Summary:
    key = run.name[:JOB_KEY_CHARACTERS]
    step = "" if run.status == "SUCCEEDED" else pipeline.state(run.arn)
    return Summary(
        job_key=key,
        model=item.get("model", ""),
        dataset=item.get("dataset", ""),
        state=state_of(run.status, item),
        step=step,
        since=utc_of(run.ended_at or run.redriven_at or run.started_at),
        attempt=_attempts(key, records),
        redrives=run.redrives,
        waits_for="approval" if run.status == "RUNNING" and step == ASKING else "",
    )


def show_pipeline(job_key: str, pipeline: Pipeline, records: Records, blobs: BlobStore) -> Shown:
    """Return everything about a job; before its execution began, its state is WAITING."""
    item = records.get(layout.job_pk(job_key), layout.STATE) or {}
    run = pipeline.run(job_key)
    job = status_of(job_key, run, item)
    if run is None:
        return Shown(job=job)
    lease = records.get(layout.job_pk(job_key), layout.LEASE) or {}
    attempt = _attempts(job_key, records)
    metrics, told_at = _metrics(job_key, lease, attempt, records)
    return Shown(
        job=job,
        dataset=item.get("dataset", ""),
        execution=run.arn,
        link=console_link(run.arn),
        visits=run.visits,
        nested={visit.nested: pipeline.nested(visit.nested).visits for visit in run.visits if visit.nested},
        attempt=attempt,
        training=newest_attempt(job_key, records),
        plan=_plan(job_key, attempt, blobs) if attempt else None,
        metrics=metrics,
        told_at=told_at,
        costs=tuple(read_job(job_key, records)),
        not_redrivable=not_redrivable(job_key, run),
    )


def redrive_pipeline(job_key: str, pipeline: Pipeline) -> str:
    """Let a job go on in the state that did not succeed; return that state.

    Raises:
        NotRedrivable: it cannot; the message says why, and what to do instead.
        Refused: there is no such job.
    """
    run = pipeline.run(job_key)
    if run is None:
        raise Refused(f"there is no job {job_key}")
    if reason := not_redrivable(job_key, run):
        raise NotRedrivable(reason)
    pipeline.redrive(job_key)
    return run.state


def not_redrivable(job_key: str, run: Run) -> str:
    """Return why a job cannot be redriven and what to do instead, or an empty text."""
    again = f"run it again with `isthmus job retry {job_key}`"
    if run.status == "RUNNING":
        return f"job {job_key} runs, at {run.state or 'its start'}: there is nothing to redrive"
    if run.status == "SUCCEEDED":
        return f"job {job_key} came to its end and cannot be redriven: {again}"
    if run.not_redrivable:
        return f"job {job_key} cannot be redriven ({run.not_redrivable}): {again}"
    if run.visits and run.visits[-1].type == "Fail":
        return f"job {job_key} ended in its state {run.state}, which would fail again: {again}"
    return ""


def console_link(arn: str) -> str:
    """Return the page of an execution in AWS's console."""
    region = arn.split(":")[3]
    return f"https://{region}.console.aws.amazon.com/states/home?region={region}#/v2/executions/details/{arn}"


def _attempts(job_key: str, records: Records) -> int:
    return int((records.get(layout.job_pk(job_key), "FENCING") or {}).get("number", 0))


def _plan(job_key: str, fencing: int, blobs: BlobStore) -> Plan | None:
    """A number is allocated before its plan is written: there may be none yet."""
    key = layout.plan_key(job_key, fencing)
    try:
        return documents.decode(Plan, blobs.get(key, max_bytes=documents.MAX_DOCUMENT_BYTES), key)
    except (MissingFile, InvalidDocument):
        return None


def _metrics(job_key: str, lease: Item, attempt: int, records: Records) -> tuple[dict[str, float], str]:
    """Return what the newest attempt ended with or, while it runs, what its rig told last and when."""
    outcome: Mapping[str, Any] = lease.get("outcome") or {}
    if outcome:
        return _numbers(outcome), ""
    news = records.get(layout.job_pk(job_key), layout.PROGRESS) or {}
    if not attempt or news.get("fencing") != attempt:
        return {}, ""
    return _numbers(news), str(news.get("at", ""))


def _numbers(item: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in item.get("metrics", {}).items()}
