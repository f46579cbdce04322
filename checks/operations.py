"""Which operation of which service a Task's ``Resource`` calls, by botocore's service models."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

import botocore.session
from botocore.exceptions import UnknownServiceError
from botocore.model import OperationModel, ServiceModel

from checks.findings import CheckError

RESOURCE = re.compile(
    r"arn:aws[\w-]*:states:::(?P<sdk>aws-sdk:)?(?P<service>[\w-]+):(?P<action>\w+)"
    r"(?:\.(?P<pattern>sync(?::2)?|waitForTaskToken))?"
)
SDK_SERVICES = {
    "cloudwatchlogs": "logs",
    "eventbridge": "events",
    "iotdataplane": "iot-data",
    "sfn": "stepfunctions",
    "sagemakerruntime": "sagemaker-runtime",
}
"""Services whose name in an ``aws-sdk:`` resource is not botocore's
(https://docs.aws.amazon.com/step-functions/latest/dg/supported-services-awssdk.html)."""

OPTIMIZED: dict[str, tuple[str, dict[str, set[str]]]] = {
    "dynamodb": (
        "dynamodb",
        {"getItem": set(), "putItem": set(), "updateItem": set(), "deleteItem": set()},
    ),
    "events": ("events", {"putEvents": {"waitForTaskToken"}}),
    "lambda": ("lambda", {"invoke": {"waitForTaskToken"}}),
    "sagemaker": (
        "sagemaker",
        {
            "createEndpoint": set(),
            "createEndpointConfig": set(),
            "createHyperParameterTuningJob": {"sync"},
            "createLabelingJob": {"sync"},
            "createModel": set(),
            "createProcessingJob": {"sync"},
            "createTrainingJob": {"sync"},
            "createTransformJob": {"sync"},
            "updateEndpoint": set(),
        },
    ),
    "sns": ("sns", {"publish": {"waitForTaskToken"}}),
    "sqs": ("sqs", {"sendMessage": {"waitForTaskToken"}}),
    "states": ("stepfunctions", {"startExecution": {"sync", "sync:2", "waitForTaskToken"}}),
}
"""Optimized integrations that this project may use: botocore's service, and each action's patterns
(https://docs.aws.amazon.com/step-functions/latest/dg/integrate-optimized.html)."""

JSON_MEMBERS = {
    ("events", "PutEvents", "Detail"),
    ("lambda", "Invoke", "Payload"),
    ("sns", "Publish", "Message"),
    ("sqs", "SendMessage", "MessageBody"),
    ("stepfunctions", "StartExecution", "Input"),
}
"""Members that an optimized integration takes as JSON of any shape and sends as text."""


@dataclass(frozen=True)
class Operation:
    """``pattern`` is ``sync``, ``sync:2``, ``waitForTaskToken`` or empty (request and response)."""

    model: OperationModel
    pattern: str
    optimized: bool

    @property
    def json_members(self) -> set[str]:
        if not self.optimized:
            return set()
        name = (self.model.service_model.service_name, self.model.name)
        return {member for service, action, member in JSON_MEMBERS if (service, action) == name}


def operation(resource: str) -> Operation | None:
    """Return what ``resource`` calls; None for a function's or an activity's ARN, which has no model.

    Raises:
        CheckError: no such service, action or integration pattern.
    """
    if not re.match(r"arn:aws[\w-]*:states:::", resource):
        return None
    found = RESOURCE.fullmatch(resource)
    if not found:
        raise CheckError(f"{resource} is no service integration")
    service, action, pattern = found["service"], found["action"], found["pattern"] or ""
    if found["sdk"]:
        if pattern.startswith("sync"):
            raise CheckError(f"{resource}: an AWS SDK integration has no .sync")
        return Operation(_model(SDK_SERVICES.get(service, service), action, resource), pattern, False)
    return Operation(_optimized(service, action, pattern, resource), pattern, True)


def _optimized(service: str, action: str, pattern: str, resource: str) -> OperationModel:
    botocore_name, actions = OPTIMIZED.get(service, ("", {}))
    if action not in actions:
        raise CheckError(f"{resource} is no optimized integration that checks/operations.py knows")
    if pattern and pattern not in actions[action]:
        raise CheckError(f"{resource}: {service}:{action} has no .{pattern}")
    return _model(botocore_name, action, resource)


def _model(service: str, action: str, resource: str) -> OperationModel:
    model, name = _service(service, resource), action[0].upper() + action[1:]
    if name not in model.operation_names:
        raise CheckError(f"{resource}: {service} has no operation {name}")
    return model.operation_model(name)


@cache
def _service(name: str, resource: str) -> ServiceModel:
    try:
        return _session().get_service_model(name)
    except UnknownServiceError as error:
        raise CheckError(f"{resource}: botocore knows no service {name}") from error


@cache
def _session() -> botocore.session.Session:
    return botocore.session.Session()
