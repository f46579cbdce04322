"""Checks a request against the constraints of botocore's model: pattern, min, max and enum.

AWS's services generate the same checks from the same models; LocalEmu's and moto's have few of them. The
wording and the order (value, path, constraint) are AWS's; a sensitive value is not repeated. A pattern has to
match the whole value, as Java's ``matches`` does it. Members that the model does not know pass: no page of
AWS says that a service refuses them. Its SDKs do before they send, and Step Functions does in tasks
(``task_parameters``).
"""

import functools
import re
import warnings
from collections.abc import Iterator
from typing import Any

from botocore.model import ListShape, MapShape, Shape, StructureShape
from localemu.aws.api import CommonServiceException, RequestContext

CODES = {
    "cloudformation": "ValidationError",
    "dynamodb": "ValidationException",
    "events": "ValidationException",
    "greengrassv2": "ValidationException",
    "iam": "ValidationError",
    "iot": "InvalidRequestException",
    "kms": "ValidationException",
    "lambda": "ValidationException",
    "logs": "InvalidParameterException",
    "sagemaker": "ValidationException",
    "ssm": "ValidationException",
    "stepfunctions": "ValidationException",
    "sts": "ValidationError",
}
"""The services that are checked and the code with which each answers. S3, SQS, SNS and API Gateway have no
such constraints in their models and refuse in their own ways."""

IN_BYTES = ("SensitiveData", "SensitiveDataJobInput")
"""Step Functions measures these in bytes of UTF-8; everything else counts characters."""


def check(context: RequestContext) -> None:
    """Raises the service's validation error, which names every violation."""
    code, shape = CODES.get(context.service.service_name), context.operation.input_shape
    if code is None or shape is None:
        return
    found = list(violations(context.service_request, shape, ""))
    if found:
        plural = "s" if len(found) > 1 else ""
        raise CommonServiceException(
            code, f"{len(found)} validation error{plural} detected: {'; '.join(found)}"
        )


def violations(value: Any, shape: Shape, path: str) -> Iterator[str]:
    """One text for each constraint that is not met, depth first."""
    if value is None:
        return
    for broken in own_violations(value, shape):
        shown = "" if shape.metadata.get("sensitive") else f" '{as_text(value)}'"
        yield f"Value{shown} at '{path}' failed to satisfy constraint: Member must {broken}"
    if isinstance(shape, StructureShape) and isinstance(value, dict):
        for name, member in shape.members.items():
            yield from violations(value.get(name), member, joined(path, name[:1].lower() + name[1:]))
    elif isinstance(shape, ListShape) and isinstance(value, list):
        for number, item in enumerate(value, start=1):
            yield from violations(item, shape.member, f"{path}.{number}.member")
    elif isinstance(shape, MapShape) and isinstance(value, dict):
        for key, item in value.items():
            yield from violations(key, shape.key, f"{path}.key")
            yield from violations(item, shape.value, f"{path}.{key}.member")


def joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def as_text(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(as_text(item) for item in value)}]"
    if isinstance(value, bytes | dict):
        return "..."
    return str(value)


def own_violations(value: Any, shape: Shape) -> Iterator[str]:
    """What the value itself breaks, not its members."""
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    measure, size = measured(value, shape)
    if size is not None and high is not None and size > high:
        yield f"have {measure} less than or equal to {high}{unit(shape)}"
    if size is not None and low is not None and size < low:
        yield f"have {measure} greater than or equal to {low}{unit(shape)}"
    if not isinstance(value, str):
        return
    allowed, pattern = shape.metadata.get("enum"), shape.metadata.get("pattern")
    if allowed and value not in allowed:
        yield f"satisfy enum value set: [{', '.join(allowed)}]"
    compiled = compiled_pattern(pattern) if pattern else None
    if compiled is not None and not compiled.fullmatch(value):
        yield f"satisfy regular expression pattern: {pattern}"


def measured(value: Any, shape: Shape) -> tuple[str, float | None]:
    """What AWS's message calls the measure, and its amount; None for what has none, such as a stream."""
    if isinstance(value, bool):
        return "value", None
    if isinstance(value, int | float):
        return "value", value
    if isinstance(value, str) and shape.name in IN_BYTES:
        return "size", len(value.encode())
    if isinstance(value, str | bytes | list | dict):
        return "length", len(value)
    return "value", None


def unit(shape: Shape) -> str:
    return " bytes in UTF-8 encoding" if shape.name in IN_BYTES else ""


@functools.cache
def compiled_pattern(pattern: str) -> re.Pattern[str] | None:
    r"""None for the few that only Java understands (``\p{L}``, surrogate pairs): those are not checked."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return re.compile(pattern, re.ASCII)
        except re.error:
            return None
