"""Write down how a pipeline ended, explained for a person, and tell the event bus.

Two come to say it: a state of the machine (RecordDeployed, RecordRejected), and EventBridge when an
execution failed, was stopped or timed out, or was redriven after that. Events come late, twice and in any
order, so each record carries its place in a job's story (``order_of``), and a later one is never undone.
"""

from __future__ import annotations

import datetime
from typing import Any

import msgspec

from isthmus.errors import Conflict
from isthmus.model import layout
from isthmus.model.execution import Ending
from isthmus.ports import Events, Item, Records
from isthmus.workflows import attempts_planned, keep_ledger
from isthmus.workflows.explain_failure import explain

JOB_KEY_CHARACTERS = 40
RUNNING = "RUNNING"
ENDED = frozenset({"DEPLOYED", "REJECTED", "FAILED", "ABORTED"})
WORDLESS = {"ABORTED": "the execution was stopped", "TIMED_OUT": "the execution timed out"}
"""What is said of an execution that ended without a cause."""
PLACES = 20_000
"""Of one execution: two for each of 10,000 redrives, which are more than fit. Its history holds 25,000
events, and each redrive writes at least three."""


class Outcome(msgspec.Struct, frozen=True):
    """``error`` is a name of ``errors.py`` or of Step Functions; ``cause`` one readable text.

    ``recorded``: this call wrote it down; else it, or something later, was on record before.
    """

    state: str
    error: str
    cause: str
    recorded: bool = True


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a job: ``state`` is DEPLOYED, REJECTED, FAILED, ABORTED, or RUNNING after a redrive.

    ``failure`` is an ``Error``, its ``Cause``, and the state ``At`` which. ``started`` is when the execution
    began, in seconds since the epoch; the machine of an earlier version does not say it (``known_start``),
    and ``started`` is then the number of the retry. ``redrives`` is None in a call of a machine that was
    started before ends had an order: its state records the end, and the event says it again.
    """

    job_key: str
    state: str
    started: int
    redrives: int | None
    known_start: bool = True
    failure: dict[str, str] = {}

    def order(self, before: Item) -> int | None:
        """Return this change's place in the story that is on record."""
        if self.redrives is None:
            return None
        # A state speaks while its execution runs, and a job has one at a time: what is on record is its own.
        started = self.started if self.known_start else max(self.started, before.get("order", 0) // PLACES)
        return order_of(started, self.redrives, ended=self.state != RUNNING)


def order_of(started: int, redrives: int, *, ended: bool) -> int:
    """Return the place of a status in its job's story: by execution, by redrive, and the end last.

    Executions are told apart by their start: a name is free again 90 days after its execution's end
    (Step Functions API reference, StartExecution). Orders of an earlier version count the job's executions
    instead, and are below all of these.
    """
    return started * PLACES + redrives * 2 + int(ended)


def from_state(event: dict[str, Any]) -> Change:
    """Return what a state of the machine asks to be recorded."""
    started = event.get("started_at")
    return Change(
        job_key=event["job_key"],
        state=event["state"],
        started=_seconds(started) if started else _number(event.get("execution", "")),
        known_start=bool(started),
        redrives=event["redrives"] if "execution" in event else None,
        failure=event.get("failure") or {},
    )


def _seconds(started_at: str) -> int:
    """Whole seconds: the context object's text and the event's number may be rounded differently."""
    return int(datetime.datetime.fromisoformat(started_at).timestamp())


def _number(execution: str) -> int:
    """Return the number of a retry, ``<job key>-1`` and so on; 0 for any other name."""
    number = execution[JOB_KEY_CHARACTERS + 1 :]
    return int(number) if number.isdecimal() else 0


def from_status_change(detail: dict[str, Any], ending: Ending) -> Change:
    """Return what to record of an execution whose status changed.

    ``detail`` is of EventBridge's "Step Functions Execution Status Change", with its times in milliseconds
    since the epoch; ``ending`` is read from the history, since the event names no state, and leaves out a
    cause that would make it too large.
    """
    key, status = detail["name"][:JOB_KEY_CHARACTERS], detail["status"]
    started, redrives = detail["startDate"] // 1000, detail.get("redriveCount") or 0
    if status == RUNNING:
        return Change(job_key=key, state=RUNNING, started=started, redrives=redrives)
    cause = detail.get("cause") or ending.cause or WORDLESS.get(status, "")
    error = detail.get("error") or ending.error or f"Execution.{status}"
    return Change(
        job_key=key,
        state="ABORTED" if status == "ABORTED" else "FAILED",
        started=started,
        redrives=redrives,
        failure={"Error": error, "Cause": cause, "At": ending.state},
    )


def record_outcome(change: Change, *, records: Records, events: Events, now: str) -> Outcome:
    """Record what became of a job; an end is also published, at least once."""
    if change.state == RUNNING:
        return _record_redrive(change, records, now)
    pk, (error, cause) = layout.job_pk(change.job_key), explain(change.failure)
    before = records.get(pk, layout.STATE) or {}
    order = change.order(before)
    if order is not None and before.get("told") == order:
        return _on_record(before)
    at = change.failure.get("At", "")
    ended = {"state": change.state, "error": error, "cause": cause, "at": at, "ended_at": now}
    # Written by a state of a machine that knew no order: the execution's own event tells the same.
    known = order is not None and "order" not in before and _says(before, ended)
    if not _write(pk, ended, order, records):
        return _on_record(records.get(pk, layout.STATE) or {})
    keep_ledger.close(change.job_key, records, now=datetime.datetime.fromisoformat(now).timestamp())
    attempts_planned.forget(change.job_key, records)
    if not known:
        _publish(change.job_key, ended, records, events)
    if order is not None:
        records.update(pk, layout.STATE, {"told": order})
    return Outcome(change.state, error, cause, recorded=not known)


def _record_redrive(change: Change, records: Records, now: str) -> Outcome:
    """The job runs again: what it failed with is no news any more."""
    again = {"state": RUNNING, "error": "", "cause": "", "at": "", "ended_at": None, "redriven_at": now}
    pk = layout.job_pk(change.job_key)
    if not _write(pk, again, change.order({}), records):
        return _on_record(records.get(pk, layout.STATE) or {})
    return Outcome(RUNNING, "", "", recorded=False)


def _write(pk: str, values: dict[str, Any], order: int | None, records: Records) -> bool:
    """Write unless something later is on record; the same again is written again."""
    if order is None:
        records.update(pk, layout.STATE, values)
        return True
    try:
        records.update(pk, layout.STATE, {**values, "order": order}, below={"order": order + 1})
    except Conflict:
        return False
    return True


def _publish(job_key: str, ended: dict[str, Any], records: Records, events: Events) -> None:
    item = records.get(layout.job_pk(job_key), layout.STATE) or {}
    facts: dict[str, Any] = {
        name: item[name] for name in ("model", "dataset", "evaluation", "release", "approval") if name in item
    }
    events.publish(f"isthmus job {ended['state'].lower()}", {"job_key": job_key, **ended, **facts})


def _says(before: Item, ended: dict[str, Any]) -> bool:
    return all(before.get(name) == ended[name] for name in ("state", "error", "cause"))


def _on_record(item: Item) -> Outcome:
    return Outcome(item.get("state", ""), item.get("error", ""), item.get("cause", ""), recorded=False)
