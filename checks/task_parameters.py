"""Every task's parameters, rendered with a sample input, against the service's own model.

What Step Functions refuses only when a task runs is found here: an unknown parameter, a wrong type, a
name that breaks the service's pattern, a path that selects nothing, a heartbeat above its timeout.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from checks.findings import CheckError, Finding
from checks.machines import Machine, State, load_machines
from checks.operations import Operation, operation
from checks.paths import read
from checks.render import CONTEXT, effective_input, render
from checks.samples import FOLDER, sample_inputs, whole_input
from checks.shapes import faults

MAX_SECONDS = 99_999_999
"""Of a timeout or heartbeat (https://docs.aws.amazon.com/step-functions/latest/dg/state-task.html)."""


def check(root: Path, samples: Path = FOLDER) -> list[Finding]:
    """Return the faults in the tasks of every state machine that the template below ``root`` names."""
    return [finding for machine in load_machines(root) for finding in check_machine(machine, samples)]


def check_machine(machine: Machine, samples: Path = FOLDER) -> list[Finding]:
    try:
        inputs = sample_inputs(machine, samples)
    except CheckError as error:
        return [Finding(machine.name, str(error))]
    found = []
    for name, state in machine.states():
        where, whole = f"{machine.name}.{name}", whole_input(machine, name, samples)
        try:
            # What no way leads to, as after a dangling Next, is judged as if every field were set.
            found += [Finding(where, what) for what in _state(state, inputs.get(name, whole))]
        except CheckError as error:
            hint = _only_on_some_ways(state, whole)
            found.append(Finding(where, f"{error}{hint}"))
    return found


def _only_on_some_ways(state: State, whole: Any) -> str:
    """Return what to add to a fault that would be none if every field of the sample were set."""
    try:
        list(_state(state, whole))
    except CheckError:
        return ""
    return " on every way from StartAt: a state that sets it is not always before this one"


def _state(state: State, document: Any) -> Iterator[str]:
    if "Arguments" in state or state.get("QueryLanguage") == "JSONata":
        raise CheckError("is in JSONata; this check reads JSONPath only: write Parameters")
    given = effective_input(state, document)
    for path in paths_of(state):
        read(path, given, CONTEXT)
    if state["Type"] not in ("Task", "Pass", "Map", "Parallel"):
        return
    parameters = render(state.get("Parameters", {}), given)
    if state["Type"] == "Task":
        called = operation(state["Resource"])
        yield from task_faults(called, parameters) if called else ()
        yield from _seconds(state, given)


def paths_of(state: State) -> Iterator[str]:
    """Yield the paths that a state reads outside of its parameters, and that have to select something."""
    yield from (
        state[field] for field in ("SecondsPath", "TimestampPath", "ErrorPath", "CausePath") if field in state
    )
    for rule in state.get("Choices", []):
        yield from _variables(rule)


def _variables(rule: dict[str, Any]) -> Iterator[str]:
    """Yield what a Choice compares; after an IsPresent in the same And it may be missing."""
    if "IsPresent" in rule:
        return
    if "Variable" in rule:
        yield rule["Variable"]
        yield from (value for field, value in rule.items() if field.endswith("Path"))
    inner = [*rule.get("And", []), *rule.get("Or", []), *([rule["Not"]] if "Not" in rule else [])]
    guarded = {part.get("Variable") for part in rule.get("And", []) if part.get("IsPresent") is True}
    for part in inner:
        yield from (path for path in _variables(part) if path not in guarded)


def task_faults(called: Operation, parameters: Any) -> Iterator[str]:
    """Yield what the operation would refuse in rendered parameters."""
    shape = called.model.input_shape
    if shape is None:
        yield from (f"{called.model.name} takes no parameters" for _ in [0] if parameters)
        return
    sent = {
        key: json.dumps(value) if key in called.json_members and not isinstance(value, str) else value
        for key, value in parameters.items()
    }
    yield from faults(sent, shape)


def _seconds(state: State, given: Any) -> Iterator[str]:
    timeout, heartbeat = (
        state.get(field) or (read(state[f"{field}Path"], given, CONTEXT) if f"{field}Path" in state else None)
        for field in ("TimeoutSeconds", "HeartbeatSeconds")
    )
    for field, value in (("TimeoutSeconds", timeout), ("HeartbeatSeconds", heartbeat)):
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        if value is not None and not (is_whole and 0 < value <= MAX_SECONDS):
            yield f"{field} is {value!r} on the sample, but must be a whole number from 1 to {MAX_SECONDS}"
            return
    if heartbeat is not None and timeout is not None and heartbeat >= timeout:
        yield f"HeartbeatSeconds ({heartbeat}) must be less than TimeoutSeconds ({timeout}) on the sample"
