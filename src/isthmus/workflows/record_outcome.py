"""Write down how a pipeline ended, explained for a person, and tell the event bus.

Two come to say it: a state of the machine (RecordDeployed, RecordRejected), and EventBridge when an
execution failed, was stopped or timed out, or was redriven after that. Events come late, twice and in any
order, so each record carries its place in a job's story (``order_of``), and a later one is never undone.
"""

from __future__ import annotations

from typing import Any

import msgspec

from isthmus.errors import Conflict
from isthmus.model import layout
from isthmus.model.execution import Ending
from isthmus.ports import Events, Item, Records
from isthmus.workflows.explain_failure import explain

JOB_KEY_CHARACTERS = 40
RUNNING = "RUNNING"
ENDED = frozenset({"DEPLOYED", "REJECTED", "FAILED", "ABORTED"})
WORDLESS = {"ABORTED": "the execution was stopped", "TIMED_OUT": "the execution timed out"}
"""What is said of an execution that ended without a cause."""
MAX_REDRIVES = 10_000
"""More than fit: an execution's history holds 25,000 events, and each redrive writes at least three."""


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

    ``failure`` is an ``Error``, its ``Cause``, and the state ``At`` which. ``order`` is None in a call of a
    machine that was started before ends had one: its state records the end, and the event says it again.
    """

    job_key: str
    state: str
    order: int | None
    failure: dict[str, str] = {}


def order_of(execution: str, redrives: int, *, ended: bool) -> int:
    """Return the place of a status in its job's story: by execution, by redrive, and the end last.

    An execution is called after its job key; a retry, which is a new one, ``<job key>-1`` and so on.
    """
    number = execution[JOB_KEY_CHARACTERS + 1 :]
    return (int(number or 0) * MAX_REDRIVES + redrives) * 2 + int(ended)


def from_state(event: dict[str, Any]) -> Change:
    """Return what a state of the machine asks to be recorded."""
    order = None
    if "execution" in event:
        order = order_of(event["execution"], event["redrives"], ended=True)
    failure = event.get("failure") or {}
    return Change(job_key=event["job_key"], state=event["state"], order=order, failure=failure)


def from_status_change(detail: dict[str, Any], ending: Ending) -> Change:
    """Return what to record of an execution whose status changed.

    ``detail`` is of EventBridge's "Step Functions Execution Status Change"; ``ending`` is read from the
    history, since the event names no state, and leaves out a cause that would make it too large.
    """
    name, status, redrives = detail["name"], detail["status"], detail.get("redriveCount") or 0
    if status == RUNNING:
        order = order_of(name, redrives, ended=False)
        return Change(job_key=name[:JOB_KEY_CHARACTERS], state=RUNNING, order=order)
    cause = detail.get("cause") or ending.cause or WORDLESS.get(status, "")
    error = detail.get("error") or ending.error or f"Execution.{status}"
    return Change(
        job_key=name[:JOB_KEY_CHARACTERS],
        state="ABORTED" if status == "ABORTED" else "FAILED",
        order=order_of(name, redrives, ended=True),
        failure={"Error": error, "Cause": cause, "At": ending.state},
    )


def record_outcome(change: Change, *, records: Records, events: Events, now: str) -> Outcome:
    """Record what became of a job; an end is also published, at least once."""
    if change.state == RUNNING:
        return _record_redrive(change, records, now)
    pk, (error, cause) = layout.job_pk(change.job_key), explain(change.failure)
    before = records.get(pk, layout.STATE) or {}
    if change.order is not None and before.get("told") == change.order:
        return _on_record(before)
    at = change.failure.get("At", "")
    ended = {"state": change.state, "error": error, "cause": cause, "at": at, "ended_at": now}
    # Written by a state of a machine that knew no order: the execution's own event tells the same.
    known = change.order is not None and "order" not in before and _says(before, ended)
    if not _write(pk, ended, change.order, records):
        return _on_record(records.get(pk, layout.STATE) or {})
    if not known:
        _publish(change.job_key, ended, records, events)
    if change.order is not None:
        records.update(pk, layout.STATE, {"told": change.order})
    return Outcome(change.state, error, cause, recorded=not known)


def _record_redrive(change: Change, records: Records, now: str) -> Outcome:
    """The job runs again: what it failed with is no news any more."""
    again = {"state": RUNNING, "error": "", "cause": "", "at": "", "ended_at": None, "redriven_at": now}
    pk = layout.job_pk(change.job_key)
    if not _write(pk, again, change.order, records):
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
        name: item[name] for name in ("model", "dataset", "evaluation", "release") if name in item
    }
    events.publish(f"isthmus job {ended['state'].lower()}", {"job_key": job_key, **ended, **facts})


def _says(before: Item, ended: dict[str, Any]) -> bool:
    return all(before.get(name) == ended[name] for name in ("state", "error", "cause"))


def _on_record(item: Item) -> Outcome:
    return Outcome(item.get("state", ""), item.get("error", ""), item.get("cause", ""), recorded=False)
