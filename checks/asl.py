"""State machines against the Amazon States Language, and against the rules of this project.

statelint finds what the language forbids: a dangling ``Next``, an unknown field, a path that does not
parse. It does not compare ``HeartbeatSeconds`` with ``TimeoutSeconds``, and takes a loop that nothing
leads to for reached; the rules here do (docs/adr/0013).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from statelint.config import Config
from statelint.linter import Linter
from statelint.problem import ProblemType

from checks import flow
from checks.findings import Finding
from checks.machines import Machine, State, containers, load_machines
from isthmus import errors

RESERVED_ERRORS = {
    "States.ALL",
    "States.BranchFailed",
    "States.DataLimitExceeded",
    "States.ExceedToleratedFailureThreshold",
    "States.HeartbeatTimeout",
    "States.Http.Socket",
    "States.IntrinsicFailure",
    "States.ItemReaderFailed",
    "States.NoChoiceMatched",
    "States.ParameterPathFailure",
    "States.Permissions",
    "States.QueryEvaluationError",
    "States.ResultPathMatchFailure",
    "States.ResultWriterFailed",
    "States.Runtime",
    "States.TaskFailed",
    "States.Timeout",
}
"""Every name that the language reserves: https://states-language.net/spec.html#appendix-a, and
https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html."""

SERVICE_ERRORS = {
    "Lambda.AWSLambdaException",
    "Lambda.ClientExecutionTimeoutException",
    "Lambda.SdkClientException",
    "Lambda.ServiceException",
    "Lambda.TooManyRequestsException",
    "Runtime.ImportModuleError",
    "SQS.SdkClientException",
    "Sqs.SdkClientException",
    "SageMaker.SdkClientException",
}
"""The services' own errors that the machines handle, each by its full name: a misspelt one would never match.
Lambda's: https://docs.aws.amazon.com/step-functions/latest/dg/bp-lambda-serviceexception.html. Of SQS only what
keeps a request from being answered; documents spell its prefix in both ways."""

RETRY_NOT_NEEDED = {"states:startExecution.sync", "states:startExecution.sync:2"}
"""Tasks that another retry of their own makes safe: a nested machine retries inside itself, and to start
it again after a throttled poll would run it twice."""

Rule = Callable[[str, State], Iterator[str]]


def check(root: Path) -> list[Finding]:
    """Return the faults of every state machine that the template below ``root`` names."""
    return [finding for machine in load_machines(root) for finding in check_machine(machine)]


def check_machine(machine: Machine) -> list[Finding]:
    # BackoffRate may be 2 as well as 2.0: JSON knows one kind of number.
    config = Config({ProblemType.FLOAT})
    found = [Finding(machine.name, problem) for problem in Linter.validate(machine.definition, config)]
    for container in containers(machine.definition):
        found += [Finding(f"{machine.name}.{name}", UNREACHABLE) for name in unreachable(container)]
    for name, state in machine.states():
        for rule in RULES:
            found += [Finding(f"{machine.name}.{name}", what) for what in rule(name, state)]
    return found


UNREACHABLE = "no way leads here from StartAt"


def unreachable(container: dict[str, Any]) -> set[str]:
    """Return the states of one definition (nested ones aside) that no way leads to."""
    return set(container["States"]) - set(flow.entered(container, frozenset()))


def heartbeat_below_timeout(name: str, state: State) -> Iterator[str]:
    """The rule for numbers; ``checks.task_parameters`` holds it for paths, on sample inputs."""
    heartbeat, timeout = state.get("HeartbeatSeconds"), state.get("TimeoutSeconds")
    if heartbeat is not None and timeout is not None and heartbeat >= timeout:
        yield f"HeartbeatSeconds ({heartbeat}) must be less than TimeoutSeconds ({timeout})"
    has_heartbeat = heartbeat is not None or "HeartbeatSecondsPath" in state
    if has_heartbeat and timeout is None and "TimeoutSecondsPath" not in state:
        yield "a heartbeat needs a timeout: heartbeats never extend it, and without one it is unbounded"


def task_has_timeout(name: str, state: State) -> Iterator[str]:
    if state["Type"] == "Task" and not {"TimeoutSeconds", "TimeoutSecondsPath"} & set(state):
        yield "needs TimeoutSeconds or TimeoutSecondsPath: the default is 99,999,999 seconds"


def task_retries(name: str, state: State) -> Iterator[str]:
    integration = state.get("Resource", "").rpartition(":::")[2]
    if state["Type"] == "Task" and not state.get("Retry") and integration not in RETRY_NOT_NEEDED:
        yield "needs a Retry for the service's transient errors"


def token_is_passed_on(name: str, state: State) -> Iterator[str]:
    waits = state.get("Resource", "").endswith(".waitForTaskToken")
    if waits and "$$.Task.Token" not in _strings(state.get("Parameters", {})):
        yield "waits for a task token, but no parameter passes $$.Task.Token on: nobody could end it"


def errors_are_known(name: str, state: State) -> Iterator[str]:
    for handler in (*state.get("Retry", []), *state.get("Catch", [])):
        for error in handler.get("ErrorEquals", []):
            known = getattr(errors, error, None) if error.isidentifier() else None
            ours = isinstance(known, type) and issubclass(known, errors.IsthmusError)
            if not ours and error not in RESERVED_ERRORS | SERVICE_ERRORS:
                yield f"handles {error}, which is neither in errors.py nor among the errors in checks/asl.py"


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for entry in value.values():
            yield from _strings(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from _strings(entry)
    elif isinstance(value, str):
        yield value


RULES: tuple[Rule, ...] = (
    heartbeat_below_timeout,
    task_has_timeout,
    task_retries,
    token_is_passed_on,
    errors_are_known,
)
