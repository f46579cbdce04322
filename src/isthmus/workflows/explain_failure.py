"""What a failure says to a person, out of whatever wrapping its cause came in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from isthmus.errors import PermissionMissing
from isthmus.model.permission import missing_permission

EXPLANATIONS = {
    (
        "WaitForRig",
        "States.Timeout",
    ): "no rig took the job before its queue deadline; is the rig's agent running?",
    ("TrainOnRig", "States.Timeout"): "the training did not end within its deadline",
    ("TrainOnRig", "States.HeartbeatTimeout"): "the rig fell silent during the training, in every attempt",
}
"""By the state and the error, of what Step Functions itself reports without a word."""
MAX_CAUSE_CHARACTERS = 8_000


def explain(failure: Mapping[str, Any]) -> tuple[str, str]:
    """Return the error's name and its cause. ``failure``: ``Error``, ``Cause``, and the state ``At`` which."""
    error, cause = str(failure.get("Error", "")), str(failure.get("Cause", ""))
    inner = _parse(cause)
    if not inner and (missing := missing_permission(cause)):  # the state machine's own role lacks it
        return PermissionMissing.__name__, missing
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
