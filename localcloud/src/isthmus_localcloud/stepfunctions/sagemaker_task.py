"""``sagemaker:create{Training,Processing,Transform}Job[.sync]`` and the service's other calls as tasks.

Source: Step Functions developer guide, "Create and manage Amazon SageMaker AI jobs with Step Functions".
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError
from localemu.aws.api.stepfunctions import HistoryEventType, TaskFailedEventDetails
from localemu.aws.spec import load_service
from localemu.services.stepfunctions.asl.component.common.error_name.custom_error_name import CustomErrorName
from localemu.services.stepfunctions.asl.component.common.error_name.failure_event import (
    FailureEvent,
    FailureEventException,
)
from localemu.services.stepfunctions.asl.component.common.error_name.states_error_name import StatesErrorName
from localemu.services.stepfunctions.asl.component.common.error_name.states_error_name_type import (
    StatesErrorNameType,
)
from localemu.services.stepfunctions.asl.component.state.state_execution.state_task.service import (
    state_task_service_callback,
)
from localemu.services.stepfunctions.asl.component.state.state_execution.state_task.service.resource import (
    ResourceCondition,
)
from localemu.services.stepfunctions.asl.eval.event.event_detail import EventDetails
from localemu.services.stepfunctions.asl.eval.program_state import ProgramStopped
from localemu.services.stepfunctions.asl.utils.boto_client import boto_client_for
from localemu.services.stepfunctions.asl.utils.encoding import to_json_str

ENDED = ("Completed", "Failed", "Stopped")


@dataclass(frozen=True)
class Waitable:
    """How to see whether a job has ended."""

    describe: str
    name: str
    status: str
    stop: str


JOBS = {
    f"create_{kind}_job": Waitable(
        f"describe_{kind}_job", f"{word}JobName", f"{word}JobStatus", f"stop_{kind}_job"
    )
    for kind, word in (("training", "Training"), ("processing", "Processing"), ("transform", "Transform"))
}


class SageMakerTask(state_task_service_callback.StateTaskServiceCallback):  # type: ignore[misc]
    """One task state whose resource is ``arn:aws:states:::sagemaker:...``."""

    def __init__(self) -> None:
        super().__init__(supported_integration_patterns={ResourceCondition.Sync})

    def _get_supported_parameters(self) -> set[str] | None:
        """Every member of the API's own request, so that a misspelt parameter is refused as on AWS."""
        action = self.resource.api_action
        operation = load_service("sagemaker").operation_model(action[0].upper() + action[1:])
        return set(operation.input_shape.members)

    def _failure(self, env: Any, name: Any, error: str, cause: str) -> Any:
        details = TaskFailedEventDetails(
            resource=self._get_sfn_resource(),
            resourceType=self._get_sfn_resource_type(),
            error=error,
            cause=cause,
        )
        return FailureEvent(
            env=env,
            error_name=name,
            event_type=HistoryEventType.TaskFailed,
            event_details=EventDetails(taskFailedEventDetails=details),
        )

    def _from_error(self, env: Any, ex: Exception) -> Any:
        """A refused call fails the task as ``SageMaker.<code>``; what a ``.sync`` raised itself passes
        through."""
        if not isinstance(ex, ClientError):
            return super()._from_error(env=env, ex=ex)
        fault, meta = ex.response["Error"], ex.response["ResponseMetadata"]
        error = f"SageMaker.{fault['Code']}"
        if not error.endswith("Exception"):
            error += "Exception"
        cause = (
            f"{fault['Message']} (Service: SageMaker, Status Code: {meta.get('HTTPStatusCode')}, "
            f"Request ID: {meta.get('RequestId')})"
        )
        return self._failure(env, CustomErrorName(error), error, cause)

    def _client(self, resource_runtime_part: Any, state_credentials: Any) -> Any:
        return boto_client_for(
            service="sagemaker", region=resource_runtime_part.region, state_credentials=state_credentials
        )

    def _eval_service_task(
        self,
        env: Any,
        resource_runtime_part: Any,
        normalised_parameters: dict[str, Any],
        state_credentials: Any,
    ) -> None:
        client = self._client(resource_runtime_part, state_credentials)
        response = getattr(client, self._get_boto_service_action())(**normalised_parameters)
        response.pop("ResponseMetadata", None)
        env.stack.append(response)

    def _build_sync_resolver(
        self,
        env: Any,
        resource_runtime_part: Any,
        normalised_parameters: dict[str, Any],
        state_credentials: Any,
    ) -> Callable[[], Any | None]:
        job = JOBS[self._get_boto_service_action()]
        env.stack.pop()
        client = self._client(resource_runtime_part, state_credentials)
        name = normalised_parameters[job.name]

        def resolve() -> Any | None:
            found = getattr(client, job.describe)(**{job.name: name})
            found.pop("ResponseMetadata", None)
            if found[job.status] not in ENDED:
                return None
            status = found[job.status]
            self._normalise_response(
                response=found, boto_service_name="sagemaker", service_action_name=job.describe
            )
            if status == "Completed":
                return found
            failed = StatesErrorNameType.StatesTaskFailed
            raise FailureEventException(
                self._failure(env, StatesErrorName(typ=failed), failed.to_name(), to_json_str(found))
            )

        return Waiting(resolve, client, job.stop, {job.name: name})

    def _eval_sync(self, env: Any, sync_resolver: Any, **named: Any) -> Any:
        """A task that is aborted stops its job: developer guide, "Run a Job (.sync)"."""
        outcome = super()._eval_sync(env=env, sync_resolver=sync_resolver, **named)
        if isinstance(env.program_state(), ProgramStopped):
            sync_resolver.stop()
        return outcome


class Waiting:
    """What a waiting task asks again and again, and how it stops what it waits for."""

    def __init__(
        self, resolve: Callable[[], Any | None], client: Any, stop: str, named: dict[str, str]
    ) -> None:
        self._resolve, self._client, self._stop, self._named = resolve, client, stop, named

    def __call__(self) -> Any | None:
        return self._resolve()

    def stop(self) -> None:
        with contextlib.suppress(ClientError):  # it may have ended meanwhile, or the role may not stop it
            getattr(self._client, self._stop)(**self._named)
