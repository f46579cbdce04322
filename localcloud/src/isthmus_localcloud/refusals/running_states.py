"""Refusals while a state machine runs: 262,144 bytes between states, and parameters that a call lacks.

Source: Step Functions developer guide, "Handling errors in Step Functions workflows": DataLimitExceeded is
reported for a task's result, a state's output, and a state's input after Parameters; neither it nor
States.Runtime is caught by States.ALL.
"""

import json
import secrets
from typing import Any

from localemu.aws.api.stepfunctions import HistoryEventType, TaskFailedEventDetails
from localemu.services.stepfunctions.asl.component.common.error_name.error_equals_decl import ErrorEqualsDecl
from localemu.services.stepfunctions.asl.component.common.error_name.failure_event import (
    FailureEvent,
    FailureEventException,
)
from localemu.services.stepfunctions.asl.component.common.error_name.states_error_name import StatesErrorName
from localemu.services.stepfunctions.asl.component.common.error_name.states_error_name_type import (
    StatesErrorNameType,
)
from localemu.services.stepfunctions.asl.component.state.state_execution.state_task.state_task import (
    StateTask,
)
from localemu.services.stepfunctions.asl.component.state.state_execution.state_task.state_task_lambda import (
    StateTaskLambda,
)
from localemu.services.stepfunctions.asl.eval.event.event_detail import EventDetails
from localemu.services.stepfunctions.asl.eval.states import ContextObject, TaskData
from localemu.services.stepfunctions.asl.utils.encoding import to_json_str

from . import limits
from .task_parameters import operation_input, unknown_fields

QUOTAS = "localemu.services.stepfunctions.quotas"
UNCAUGHT = (
    StatesErrorName(typ=StatesErrorNameType.StatesStatesDataLimitExceeded),
    StatesErrorName(typ=StatesErrorNameType.StatesRuntime),
)


def is_within_quota(value: Any) -> bool:
    """Measured as compact JSON in UTF-8; LocalEmu measures it with spaces and escapes, and text unquoted."""
    text = json.dumps(value, default=str, ensure_ascii=False, separators=(",", ":"))
    return len(text.encode(errors="surrogatepass")) <= limits.STATE_DATA.value


def failure(env: Any, kind: StatesErrorNameType, cause: str) -> FailureEventException:
    details = TaskFailedEventDetails(error=kind.to_name(), cause=cause)
    event = FailureEvent(
        env=env,
        error_name=StatesErrorName(typ=kind),
        event_type=HistoryEventType.TaskFailed,
        event_details=EventDetails(taskFailedEventDetails=details),
    )
    return FailureEventException(failure_event=event)


def check_parameters(state: Any, env: Any, parameters: Any) -> None:
    """Raises States.Runtime or States.DataLimitExceeded. The second's wording is ours."""
    if unknown := list(unknown_fields(parameters, operation_input(state.resource.resource_arn))):
        reasons = ", ".join(f'The field "{field}" is not supported by Step Functions' for field in unknown)
        cause = (
            f"An error occurred while executing the state '{state.name}' (entered at the event id "
            f"#{env.event_history_context.source_event_id}). The Parameters '{to_json_str(parameters)}' "
            f"could not be used to start the Task: [{reasons}]"
        )
        raise failure(env, StatesErrorNameType.StatesRuntime, cause)
    if not is_within_quota(parameters):
        cause = (
            f"The input of the state/task '{state.name}' has a size exceeding the maximum number of bytes "
            "service limit."
        )
        raise failure(env, StatesErrorNameType.StatesStatesDataLimitExceeded, cause)


def eval_parameters(self: Any, env: Any) -> Any:
    """Instead of LocalEmu's, which drops unknown parameters in silence."""
    parameters: Any = {}
    if self.parargs is not None:
        self.parargs.eval(env=env)
        parameters = env.stack.pop()
    check_parameters(self, env, parameters)
    return parameters


def check_lambda_input() -> None:
    original = StateTaskLambda._eval_parameters

    def eval_lambda_parameters(self: Any, env: Any) -> Any:
        parameters = original(self, env)
        check_parameters(self, env, parameters["Payload"])
        return parameters

    StateTaskLambda._eval_parameters = eval_lambda_parameters


def spare_terminal_errors_from_wildcards() -> None:
    original = ErrorEqualsDecl._eval_body

    def eval_body(self: Any, env: Any) -> None:
        error = env.stack[-1]
        original(self, env)
        if error in UNCAUGHT:
            env.stack[-1] = error in self.error_names

    ErrorEqualsDecl._eval_body = eval_body


def update_task_token(self: Any) -> str:
    """Tokens of the full length that AWS may give, so that what has no room for one fails here."""
    token = secrets.token_hex(limits.TASK_TOKEN.value // 2)
    self.context_object_data["Task"] = TaskData(Token=token)
    return token


def apply() -> None:
    from ..hooks import replace_everywhere

    replace_everywhere(QUOTAS, "is_within_size_quota", is_within_quota)
    StateTask._eval_parameters = eval_parameters
    check_lambda_input()
    spare_terminal_errors_from_wildcards()
    ContextObject.update_task_token = update_task_token
