"""Everything that one request has to be allowed: what it asks for, and what AWS checks along with it."""

from collections.abc import Callable, Iterator

from . import dynamodb, functions, greengrass, others, s3
from .calls import Call, Check

SERVICES: dict[str, Callable[[Call], Iterator[Check]]] = {
    "cloudformation": others.stacks,
    "cloudwatch": others.metrics,
    "dynamodb": dynamodb.checks,
    "ecr": others.registry,
    "events": others.events,
    "greengrassv2": greengrass.checks,
    "kms": others.keys,
    "lambda": functions.checks,
    "logs": others.logs,
    "s3": s3.checks,
    "sagemaker": others.sagemaker,
    "sqs": others.queues,
    "stepfunctions": others.states,
}


def checks_of(call: Call) -> list[Check]:
    """In the order in which AWS would refuse them: the action itself first."""
    found = SERVICES.get(call.service, others.anything)(call)
    return list({(check.action, check.resource): check for check in reversed(list(found))}.values())[::-1]
