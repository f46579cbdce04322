"""A task whose call the machine's role may not make: AWS's names and causes of the failure.

A refused Lambda call is ``Lambda.AWSLambdaException`` with this very cause (awslabs/
aws-deployment-framework#460; aws-samples/lambda-refarch-imagerecognition#19); LocalEmu takes the error's
code for its name. The other optimised integrations use the same SDK, whose exception for an error that
a service's model does not list is ``Amazon…Exception`` or ``AWS…Exception`` likewise.
"""

from typing import Any

from botocore.exceptions import ClientError
from localemu.aws.api.stepfunctions import HistoryEventType, TaskFailedEventDetails
from localemu.services.stepfunctions.asl.component.common.error_name.custom_error_name import CustomErrorName
from localemu.services.stepfunctions.asl.component.common.error_name.failure_event import FailureEvent
from localemu.services.stepfunctions.asl.component.state.state_execution.state_task.service import (
    state_task_service_lambda,
    state_task_service_sfn,
    state_task_service_sqs,
)
from localemu.services.stepfunctions.asl.eval.event.event_detail import EventDetails

CODES = frozenset({"AccessDenied", "AccessDeniedException", "KMS.AccessDeniedException"})
NAMES = {
    state_task_service_lambda.StateTaskServiceLambda: ("Lambda.AWSLambdaException", "AWSLambda"),
    state_task_service_sqs.StateTaskServiceSqs: ("SQS.AmazonSQSException", "AmazonSQS"),
    state_task_service_sfn.StateTaskServiceSfn: (
        "StepFunctions.AWSStepFunctionsException",
        "AWSStepFunctions",
    ),
}


def apply() -> None:
    for kind, (error, service) in NAMES.items():
        _name(kind, error, service)


def _name(kind: Any, error: str, service: str) -> None:
    original = kind._from_error

    def from_error(self: Any, env: Any, ex: Exception) -> Any:
        if not (isinstance(ex, ClientError) and ex.response["Error"]["Code"] in CODES):
            return original(self, env=env, ex=ex)
        details = TaskFailedEventDetails(
            error=error,
            cause=cause_of(ex, service),
            resource=self._get_sfn_resource(),
            resourceType=self._get_sfn_resource_type(),
        )
        return FailureEvent(
            env=env,
            error_name=CustomErrorName(error),
            event_type=HistoryEventType.TaskFailed,
            event_details=EventDetails(taskFailedEventDetails=details),
        )

    kind._from_error = from_error


def cause_of(error: ClientError, service: str) -> str:
    fault, meta = error.response["Error"], error.response["ResponseMetadata"]
    return (
        f"{fault['Message']} (Service: {service}; Status Code: {meta.get('HTTPStatusCode')}; "
        f"Error Code: {fault['Code']}; Request ID: {meta.get('RequestId')}; Proxy: null)"
    )
