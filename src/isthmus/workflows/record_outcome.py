"""Write down how a pipeline ended, explained for a person, and tell the event bus."""

from __future__ import annotations

from typing import Any

import msgspec

from isthmus.model import layout
from isthmus.ports import Events, Records

EXPLANATIONS = {
    (
        "WaitForRig",
        "States.Timeout",
    ): "no rig took the job before its queue deadline; is the rig's agent running?",
    ("TrainOnRig", "States.Timeout"): "the training did not end within its deadline",
    ("TrainOnRig", "States.HeartbeatTimeout"): "the rig fell silent during the training, in every attempt",
}
JOB_KEY_CHARACTERS = 40
ENDED = frozenset({"DEPLOYED", "REJECTED", "FAILED", "ABORTED"})
MAX_CAUSE_CHARACTERS = 8_000


class Outcome(msgspec.Struct, frozen=True):
    """``error`` is a name of ``errors.py`` or of Step Functions; ``cause`` one readable text."""

    state: str
    error: str
    cause: str


def record_outcome(
    job_key: str,
    state: str,
    failure: dict[str, Any] | None,
    *,
    records: Records,
    events: Events,
    now: str,
    unless_ended: bool = False,
) -> Outcome:
    """Record ``state`` (DEPLOYED, REJECTED, FAILED) and publish it.

    ``unless_ended``: do nothing when an end is on record (an execution that failed usually recorded it).
    ``failure`` is the ``Error`` and ``Cause`` of a Catch, with the name of the state ``At`` which.
    """
    before = records.get(layout.job_pk(job_key), layout.STATE) or {}
    if unless_ended and before.get("state") in ENDED:
        return Outcome(before["state"], before.get("error", ""), before.get("cause", ""))
    error, cause = explain(failure or {})
    ended = {"state": state, "error": error, "cause": cause, "ended_at": now}
    records.update(layout.job_pk(job_key), layout.STATE, ended)
    item = records.get(layout.job_pk(job_key), layout.STATE) or {}
    facts: dict[str, Any] = {
        name: item[name] for name in ("model", "dataset", "evaluation", "release") if name in item
    }
    events.publish(f"isthmus job {state.lower()}", {"job_key": job_key, **ended, **facts})
    return Outcome(state, error, cause)


def from_status_change(detail: dict[str, Any]) -> dict[str, Any]:
    """Return what to record of an execution that ended without a state of its own to record it.

    ``detail`` is of EventBridge's "Step Functions Execution Status Change": ABORTED, TIMED_OUT or FAILED.
    """
    stopped = detail["status"] == "ABORTED"
    cause = detail.get("cause") or ("the execution was stopped" if stopped else "the execution timed out")
    return {
        "job_key": detail["name"][:JOB_KEY_CHARACTERS],
        "state": "ABORTED" if stopped else "FAILED",
        "unless_ended": detail["status"] == "FAILED",
        "failure": {"Error": detail.get("error") or f"Execution.{detail['status']}", "Cause": cause},
    }


def explain(failure: dict[str, Any]) -> tuple[str, str]:
    """Return the error's name and its cause, out of whatever wrapping the cause came in."""
    error, cause = str(failure.get("Error", "")), str(failure.get("Cause", ""))
    inner = _parse(cause)
    if "errorMessage" in inner:  # a Lambda function's error
        return error or str(inner.get("errorType", "")), str(inner["errorMessage"])[-MAX_CAUSE_CHARACTERS:]
    if "ExecutionArn" in inner and "Error" in inner:  # a nested execution's
        return explain({"Error": inner["Error"], "Cause": inner.get("Cause", "")})
    if "exit_code" in inner:  # a rig's
        return error, _of_attempt(inner["exit_code"], str(inner.get("cause", "")))
    known = EXPLANATIONS.get((str(failure.get("At", "")), error))
    return error, known or cause[-MAX_CAUSE_CHARACTERS:]


def _of_attempt(exit_code: int | None, cause: str) -> str:
    """Head the script's last lines; an attempt without an exit code failed before or after the script."""
    if exit_code is None:
        return cause[-MAX_CAUSE_CHARACTERS:]
    lines = cause.removeprefix(f"exit code {exit_code}\n")[-MAX_CAUSE_CHARACTERS:]
    return f"the training script ended with exit code {exit_code}\n{lines}"


def _parse(cause: str) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(cause)
    except msgspec.DecodeError:
        return {}
    return value if isinstance(value, dict) else {}
