"""An execution that is stopped stops what it waits for; LocalEmu lets a nested execution run on.

Source: Step Functions developer guide, "Run a Job (.sync)": "If a task using this pattern is aborted, ...
Step Functions will make a best-effort attempt to cancel the task", which takes states:StopExecution.
"""

import contextlib
from typing import Any

from botocore.exceptions import ClientError
from localemu.services.stepfunctions.asl.component.state.state_execution.state_task.service import (
    state_task_service_sfn,
)
from localemu.services.stepfunctions.asl.eval.program_state import ProgramStopped
from localemu.services.stepfunctions.asl.utils.boto_client import boto_client_for

KIND = state_task_service_sfn.StateTaskServiceSfn


class Waiting:
    """LocalEmu's resolver of a waiting task, which also knows how to stop what it waits for."""

    def __init__(self, resolve: Any, client: Any, execution_arn: str) -> None:
        self._resolve, self._client, self._execution_arn = resolve, client, execution_arn

    def __call__(self) -> Any:
        return self._resolve()

    def stop(self) -> None:
        # A best effort: it may have ended meanwhile, or the machine's role may not stop it.
        with contextlib.suppress(ClientError):
            self._client.stop_execution(executionArn=self._execution_arn)


def apply() -> None:
    for name in ("_build_sync_resolver", "_build_sync2_resolver"):
        _remember(name)
    original = KIND._eval_sync

    def eval_sync(self: Any, env: Any, sync_resolver: Any, **named: Any) -> Any:
        outcome = original(self, env=env, sync_resolver=sync_resolver, **named)
        if isinstance(env.program_state(), ProgramStopped):
            sync_resolver.stop()
        return outcome

    KIND._eval_sync = eval_sync


def _remember(name: str) -> None:
    original = getattr(KIND, name)

    def build(self: Any, env: Any, resource_runtime_part: Any, state_credentials: Any, **named: Any) -> Any:
        execution_arn = env.stack[-1]["ExecutionArn"]
        region = resource_runtime_part.region
        client = boto_client_for(service="stepfunctions", region=region, state_credentials=state_credentials)
        given = {"resource_runtime_part": resource_runtime_part, "state_credentials": state_credentials}
        return Waiting(original(self, env=env, **given, **named), client, execution_arn)

    setattr(KIND, name, build)
