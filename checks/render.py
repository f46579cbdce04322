"""Payload templates (``Parameters``, ``ItemSelector``, …) rendered with sample values."""

from __future__ import annotations

from typing import Any

from checks.findings import CheckError
from checks.intrinsics import evaluate
from checks.paths import read

CONTEXT: dict[str, Any] = {
    "Execution": {
        "Id": "arn:aws:states:eu-west-1:123456789012:execution:isthmus-machine:" + "a" * 40,
        "Input": {},
        "Name": "a" * 40,
        "RoleArn": "arn:aws:iam::123456789012:role/isthmus-machine",
        "RedriveCount": 0,
        "RedriveTime": "2026-01-02T03:04:05.678Z",
        "StartTime": "2026-01-02T03:04:05.678Z",
    },
    "State": {"EnteredTime": "2026-01-02T03:04:05.678Z", "Name": "State", "RetryCount": 0},
    "StateMachine": {
        "Id": "arn:aws:states:eu-west-1:123456789012:stateMachine:isthmus-machine",
        "Name": "isthmus-machine",
    },
    "Map": {"Item": {"Index": 0, "Value": {}}},
    "Task": {"Token": "AQB" + "k" * 1000},
}
"""The context object: https://docs.aws.amazon.com/step-functions/latest/dg/input-output-contextobject.html"""


def render(template: Any, state_input: Any, context: Any = CONTEXT) -> Any:
    """Return the value that Step Functions would make of a payload template.

    Raises:
        CheckError: a path selects nothing, or an intrinsic function fails; the message says where.
    """
    if isinstance(template, list):
        return [render(entry, state_input, context) for entry in template]
    if not isinstance(template, dict):
        return template
    rendered: dict[str, Any] = {}
    for key, value in template.items():
        if key.endswith(".$"):
            rendered[key.removesuffix(".$")] = expression(value, key, state_input, context)
        else:
            rendered[key] = render(value, state_input, context)
    return rendered


def expression(value: Any, key: str, state_input: Any, context: Any = CONTEXT) -> Any:
    """Return the value of a path or of an intrinsic function."""
    if not isinstance(value, str):
        raise CheckError(f"{key} must be a path or an intrinsic function, not {value!r}")
    if value.startswith("States."):
        return evaluate(value, lambda path: read(path, state_input, context))
    return read(value, state_input, context)


def effective_input(state: dict[str, Any], state_input: Any, context: Any = CONTEXT) -> Any:
    """Return what ``InputPath`` leaves of a state's input; ``null`` leaves nothing."""
    path = state.get("InputPath", "$")
    return {} if path is None else read(path, state_input, context)
