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
from checks.samples import FOLDER, sample_input
from checks.shapes import faults

MAX_SECONDS = 99_999_999
"""Of a timeout or heartbeat (https://docs.aws.amazon.com/step-functions/latest/dg/state-task.html)."""


def check(root: Path, samples: Path = FOLDER) -> list[Finding]:
    """Return the faults in the tasks of every state machine that the template below ``root`` names."""
    return [finding for machine in load_machines(root) for finding in check_machine(machine, samples)]


def check_machine(machine: Machine, samples: Path = FOLDER) -> list[Finding]:
    found = []
    for name, state in machine.states():
        where = f"{machine.name}.{name}"
        try:
            found += [Finding(where, what) for what in _state(machine.name, name, state, samples)]
        except CheckError as error:
            found.append(Finding(where, str(error)))
    return found


def _state(machine: str, name: str, state: State, samples: Path) -> Iterator[str]:
    if state["Type"] not in ("Task", "Pass", "Map", "Parallel"):
        return
    if "Arguments" in state or state.get("QueryLanguage") == "JSONata":
        raise CheckError("is in JSONata; this check reads JSONPath only: write Parameters")
    given = effective_input(state, sample_input(machine, name, samples))
    parameters = render(state.get("Parameters", {}), given)
    if state["Type"] == "Task":
        called = operation(state["Resource"])
        yield from task_faults(called, parameters) if called else ()
        yield from _seconds(state, given)


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
