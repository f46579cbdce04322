"""What a role must be allowed before a resource may be set up with it: AWS refuses the set-up itself."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from localemu.aws.api import CommonServiceException

from .calls import Call, Check
from .others import rule_arn

MANAGED_RULES = {
    "states:startExecution": "StepFunctionsGetEventsForStepFunctionsExecutionRule",
    "sagemaker:createTrainingJob": "StepFunctionsGetEventsForSageMakerTrainingJobsRule",
    "sagemaker:createTransformJob": "StepFunctionsGetEventsForSageMakerTransformJobsRule",
}
"""Step Functions waits for these by a rule of its own: developer guide, IAM policies of each integration."""
RULE_ACTIONS = ("events:PutTargets", "events:PutRule", "events:DescribeRule")


@dataclass(frozen=True)
class Demand:
    """The role has to pass the check, or the call fails with the error."""

    role_arn: str
    check: Check
    error: CommonServiceException


def demands(call: Call) -> Iterator[Demand]:
    match (call.service, call.operation):
        case ("stepfunctions", "CreateStateMachine" | "UpdateStateMachine"):
            yield from _of_machine(call)
        case ("lambda", "CreateFunction" | "UpdateFunctionConfiguration"):
            yield from _of_function(call)


def _of_machine(call: Call) -> Iterator[Demand]:
    role, definition = call.text("roleArn"), call.text("definition")
    if not (role and definition):
        return
    message = f"'{role}' is not authorized to create managed-rule."
    try:
        parsed = json.loads(definition)
    except ValueError:
        return  # Step Functions itself says what is wrong with it
    for rule in dict.fromkeys(_rules(parsed)):
        for action in RULE_ACTIONS:
            reason = "a .sync task waits by a rule that Step Functions manages"
            check = Check(action, rule_arn(call, rule), implied=reason)
            yield Demand(
                role, check, CommonServiceException("AccessDeniedException", message, status_code=400)
            )


def _rules(value: Any) -> Iterator[str]:
    """The managed rules of all tasks, also inside Map and Parallel states."""
    if isinstance(value, dict):
        resource = value.get("Resource")
        if isinstance(resource, str) and ".sync" in resource:
            kind = resource.removeprefix("arn:aws:states:::").partition(".")[0]
            if kind in MANAGED_RULES:
                yield MANAGED_RULES[kind]
        for inner in value.values():
            yield from _rules(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _rules(inner)


def _of_function(call: Call) -> Iterator[Demand]:
    target = str((call.params.get("DeadLetterConfig") or {}).get("TargetArn") or "")
    role = call.text("Role")
    if role and ":sqs:" in target:
        message = "The provided execution role does not have permissions to call SendMessage on SQS"
        error = CommonServiceException("InvalidParameterValueException", message, status_code=400)
        yield Demand(
            role, Check("sqs:SendMessage", target, implied="the function's dead-letter queue"), error
        )
