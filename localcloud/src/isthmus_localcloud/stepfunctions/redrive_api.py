"""RedriveExecution, and what DescribeExecution, ListExecutions, the events and ``$$`` say of redrives.

Source: Step Functions API reference, RedriveExecution and DescribeExecution (eligibility, the reasons'
wording, client tokens); developer guide, "Context object".
"""

import datetime
import json
from typing import Any

from localemu.aws.api.stepfunctions import (
    ExecutionLimitExceeded,
    ExecutionNotRedrivable,
    ExecutionStatus,
    RedriveExecutionOutput,
)
from localemu.services.stepfunctions import provider as module
from localemu.services.stepfunctions.backend.execution import Execution
from localemu.services.stepfunctions.backend.execution_worker import ExecutionWorker

from .redrive import redrive

REDRIVABLE_FOR = datetime.timedelta(days=14)
MAX_EVENTS = 24_999
MAX_RUNNING = 1_000_000
"""Open executions per account and region (Step Functions quotas)."""
TOKENS_KEPT = 10
TOKEN_LIFE = datetime.timedelta(minutes=15)


def now() -> datetime.datetime:
    return datetime.datetime.now(tz=datetime.UTC)


def refusal(execution: Any) -> str | None:
    """Return why the execution cannot be redriven, in AWS's words; None: it can."""
    status = execution.exec_status
    if status in (ExecutionStatus.RUNNING, ExecutionStatus.SUCCEEDED):
        return f"Execution is {status} and cannot be redriven"
    if len(execution.to_history_output()["events"]) >= MAX_EVENTS:
        return "Execution history event limit exceeded"
    if now() - execution.stop_date > REDRIVABLE_FOR:
        return "Execution redrivable period exceeded"
    return None


def described(execution: Any) -> dict[str, Any]:
    """Return the members of DescribeExecution that tell of redrives."""
    reason = refusal(execution)
    found = {"redriveCount": execution.redrive_count, "redriveStatus": "REDRIVABLE"}
    if reason:
        found |= {"redriveStatus": "NOT_REDRIVABLE", "redriveStatusReason": reason}
    if execution.redrive_date:
        found["redriveDate"] = execution.redrive_date
    return found


def redrive_execution(
    self: Any, context: Any, execution_arn: str, client_token: str | None = None, **_: Any
) -> RedriveExecutionOutput:
    """The provider's operation; the same client token gets the same answer and redrives once."""
    self._validate_state_machine_execution_arn(execution_arn)
    execution = self._get_execution(context=context, execution_arn=execution_arn)
    with module._SF_STORE_LOCK:
        made_at = execution.redrive_tokens.get(client_token) if client_token else None
        if made_at and now() - made_at < TOKEN_LIFE:
            return RedriveExecutionOutput(redriveDate=made_at)
        if reason := refusal(execution):
            raise ExecutionNotRedrivable(f"{reason}: '{execution_arn}'")
        if len(self._get_executions(context, ExecutionStatus.RUNNING)) >= MAX_RUNNING:
            raise ExecutionLimitExceeded("The maximum number of running executions has been reached")
        redrive(execution, now())
        _remember(execution, client_token)
    return RedriveExecutionOutput(redriveDate=execution.redrive_date)


def _remember(execution: Any, client_token: str | None) -> None:
    if client_token:
        kept = list(execution.redrive_tokens.items())[1 - TOKENS_KEPT :]
        execution.redrive_tokens = dict([*kept, (client_token, execution.redrive_date)])


class EventsWithRedrives:
    """The client through which an execution publishes its status, adding what AWS's events have too.

    Times are in milliseconds since the epoch, not texts. Source: Step Functions developer guide,
    "Automating Step Functions event delivery with EventBridge", whose examples hold them.
    """

    def __init__(self, client: Any, execution: Any) -> None:
        self._client, self._execution = client, execution

    def put_events(self, Entries: list[dict[str, Any]]) -> Any:
        for entry in Entries:
            more = {"redriveDate": None, "redriveStatusReason": None, **described(self._execution)}
            dates = {"startDate": self._execution.start_date, "stopDate": self._execution.stop_date}
            detail = json.loads(entry["Detail"]) | more | dates
            entry["Detail"] = json.dumps(detail, default=lambda date: int(date.timestamp() * 1000))
        return self._client.put_events(Entries=Entries)


def apply() -> None:
    """Patch the provider, the execution and its context object."""
    Execution.redrive_count = 0
    Execution.redrive_date = None
    Execution.redrive_tokens = {}
    module.StepFunctionsProvider.redrive_execution = redrive_execution
    describe, listed, events_client = (
        Execution.to_describe_output,
        Execution.to_execution_list_item,
        Execution._get_events_client,
    )
    Execution.to_describe_output = lambda self: describe(self) | described(self)
    Execution.to_execution_list_item = lambda self: listed(self) | _in_list(self)
    Execution._get_events_client = lambda self: EventsWithRedrives(events_client(self), self)
    environment = ExecutionWorker._get_evaluation_environment

    def with_count(self: Any) -> Any:
        env = environment(self)
        env.states.context_object.context_object_data["Execution"]["RedriveCount"] = 0
        return env

    ExecutionWorker._get_evaluation_environment = with_count


def _in_list(execution: Any) -> dict[str, Any]:
    dates = {"redriveDate": execution.redrive_date} if execution.redrive_date else {}
    return {"redriveCount": execution.redrive_count, **dates}
