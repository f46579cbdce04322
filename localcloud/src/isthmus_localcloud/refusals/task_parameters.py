"""Task states: parameters that the called API does not have.

AWS refuses them twice. When the state machine is created or updated, for the names that its definition shows:
``InvalidDefinition``, 'SCHEMA_VALIDATION_FAILED: The field "x" is not supported by Step Functions'. And when
the state runs, for those that came through a path or an expression: ``States.Runtime``, "The Parameters ...
could not be used to start the Task". Source: Step Functions developer guide, "Passing parameters to a service
API" ("The field Filter is not supported by Step Functions"); for the first case also Lambda users' reports
(the field "awsVpcConfiguration" refused on deployment). Names are compared with botocore's model in the
PascalCase that Step Functions wants. An optimised integration knows a little less than its API on AWS;
here it knows the same. Values, types and required members are left to the call itself.
"""

from collections.abc import Iterator
from typing import Any

from botocore.exceptions import UnknownServiceError
from botocore.model import ListShape, MapShape, OperationNotFoundError, Shape, StructureShape
from localemu.aws.spec import load_service

SERVICES = {"states": "stepfunctions", "sfn": "stepfunctions"}
OPTIMISED = ("batch", "dynamodb", "ecs", "events", "glue", "lambda", "sagemaker", "sns", "sqs", "states")
PREFIX = "arn:aws:states:::"
SDK = "aws-sdk:"


def operation_input(resource: str) -> Shape | None:
    """The request's shape for ``arn:aws:states:::[aws-sdk:]service:action[.pattern]``. None for any other
    resource (an activity, a function's ARN, an HTTP call) and where botocore has no model for it."""
    called = resource.removeprefix(PREFIX).removeprefix(SDK)
    service, _, action = called.partition(":")
    if not resource.startswith(PREFIX) or not (service in OPTIMISED or resource.startswith(PREFIX + SDK)):
        return None
    name = action.partition(".")[0]
    try:
        model = load_service(SERVICES.get(service, service))
        return model.operation_model(name[:1].upper() + name[1:]).input_shape
    except (UnknownServiceError, OperationNotFoundError):
        return None


def unknown_fields(parameters: Any, shape: Shape | None) -> Iterator[str]:
    """The names in ``parameters`` that the shape does not have; ``name.$`` stands for ``name``."""
    if isinstance(shape, StructureShape) and isinstance(parameters, dict):
        members = {name[:1].upper() + name[1:]: member for name, member in shape.members.items()}
        for key, value in parameters.items():
            name = key.removesuffix(".$")
            if name not in members:
                yield name
            elif name == key:
                yield from unknown_fields(value, members[name])
    elif isinstance(shape, ListShape) and isinstance(parameters, list):
        for item in parameters:
            yield from unknown_fields(item, shape.member)
    elif isinstance(shape, MapShape) and isinstance(parameters, dict):
        for value in parameters.values():
            yield from unknown_fields(value, shape.value)


def in_definition(definition: Any, path: str = "") -> Iterator[str]:
    """AWS's diagnostics for a whole definition, nested states included."""
    states = definition.get("States") if isinstance(definition, dict) else None
    for name, state in (states or {}).items():
        if not isinstance(state, dict):
            continue
        at = f"{path}/States/{name}"
        if state.get("Type") == "Task":
            yield from in_task(state, at)
        for number, branch in enumerate(state.get("Branches") or []):
            yield from in_definition(branch, f"{at}/Branches[{number}]")
        for part in ("ItemProcessor", "Iterator"):
            yield from in_definition(state.get(part), f"{at}/{part}")


def in_task(state: dict[str, Any], at: str) -> Iterator[str]:
    shape = operation_input(str(state.get("Resource")))
    for part in ("Parameters", "Arguments"):
        for field in unknown_fields(state.get(part), shape):
            why = f'The field "{field}" is not supported by Step Functions'
            yield f"SCHEMA_VALIDATION_FAILED: {why} at {at}/{part}"
