"""A task that falls silent ends with ``States.HeartbeatTimeout``, as on AWS.

LocalEmu says ``States.Timeout``, as for a task that ran too long, so that a catcher of silence alone never
catches. On AWS ``States.Timeout`` stands for both (aws/aws-cdk#16084).
"""

from typing import Any

from localemu.services.stepfunctions.asl.component.common.error_name.error_equals_decl import ErrorEqualsDecl
from localemu.services.stepfunctions.asl.component.common.error_name.states_error_name import StatesErrorName
from localemu.services.stepfunctions.asl.component.common.error_name.states_error_name_type import (
    StatesErrorNameType,
)
from localemu.services.stepfunctions.asl.component.state.state_execution.state_task.service import (
    state_task_service_callback,
)
from localemu.services.stepfunctions.asl.eval.callback.callback import HeartbeatTimeoutError

KIND = state_task_service_callback.StateTaskServiceCallback
SILENT = StatesErrorName(typ=StatesErrorNameType.StatesHeartbeatTimeout)
LATE = StatesErrorName(typ=StatesErrorNameType.StatesTimeout)


def apply() -> None:
    name_error, match = KIND._from_error, ErrorEqualsDecl._eval_body

    def from_error(self: Any, env: Any, ex: Exception) -> Any:
        event = name_error(self, env, ex)
        if isinstance(ex, HeartbeatTimeoutError):
            event.error_name = SILENT
            event.event_details["taskTimedOutEventDetails"]["error"] = SILENT.error_name
        return event

    def eval_body(self: Any, env: Any) -> None:
        if env.stack[-1] == SILENT and LATE in self.error_names:
            env.stack[-1] = LATE
        match(self, env)

    KIND._from_error = from_error
    ErrorEqualsDecl._eval_body = eval_body
