"""Values against botocore's shapes: members, types, bounds, patterns and enumerations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import regex
from botocore.model import ListShape, MapShape, Shape, StructureShape
from botocore.validate import ParamValidator

STRINGS = ("string", "blob")
NUMBERS = ("integer", "long", "float", "double")


def faults(value: Any, shape: Shape) -> Iterator[str]:
    """Yield a sentence for everything in ``value`` that the service would refuse.

    Names are as Step Functions wants them: PascalCase throughout, whatever the service's own API uses
    (https://docs.aws.amazon.com/step-functions/latest/dg/supported-services-awssdk.html).
    """
    errors = ParamValidator().validate(to_model(value, shape), shape)
    yield from (line for line in errors.generate_report().splitlines() if line)
    yield from constraints(value, shape, "")


def pascal(name: str) -> str:
    return name[:1].upper() + name[1:]


def to_model(value: Any, shape: Shape) -> Any:
    """Return ``value`` with PascalCase members under the model's own names.

    A member in any other spelling gets a name that no model has, so that validation refuses it.
    """
    if isinstance(shape, StructureShape) and isinstance(value, dict):
        names = {pascal(name): name for name in shape.members}
        return {
            names.get(key, f"{key} (not PascalCase)" if key in shape.members else key): (
                to_model(entry, shape.members[names[key]]) if key in names else entry
            )
            for key, entry in value.items()
        }
    if isinstance(shape, ListShape) and isinstance(value, list):
        return [to_model(entry, shape.member) for entry in value]
    if isinstance(shape, MapShape) and isinstance(value, dict):
        return {key: to_model(entry, shape.value) for key, entry in value.items()}
    return value


def constraints(value: Any, shape: Shape, where: str) -> Iterator[str]:
    """Yield what ParamValidator leaves to the service: pattern, maximum, enumeration, and booleans."""
    yield from _scalar(value, shape, where)
    if isinstance(shape, StructureShape) and isinstance(value, dict):
        names = {pascal(name): name for name in shape.members}
        for key, entry in value.items():
            if key in names:
                yield from constraints(entry, shape.members[names[key]], f"{where}.{key}")
    elif isinstance(shape, ListShape) and isinstance(value, list):
        for index, entry in enumerate(value):
            yield from constraints(entry, shape.member, f"{where}[{index}]")
    elif isinstance(shape, MapShape) and isinstance(value, dict):
        for key, entry in value.items():
            yield from constraints(key, shape.key, f"{where} key {key}")
            yield from constraints(entry, shape.value, f"{where}.{key}")


def _scalar(value: Any, shape: Shape, where: str) -> Iterator[str]:
    bounds, name = shape.metadata, where.lstrip(".")
    if isinstance(value, bool) and shape.type_name in NUMBERS:  # a bool is an int to ParamValidator
        yield f"Invalid type for parameter {name}, value: {value}, valid types: a number"
        return
    size = _size(value, shape)
    if size is not None and "max" in bounds and size > bounds["max"]:
        yield f"Invalid size of parameter {name}: {size}, at most {bounds['max']}"
    if isinstance(value, str):
        if bounds.get("enum") and value not in bounds["enum"]:
            yield f"Invalid value of parameter {name}: {value!r} is none of {', '.join(bounds['enum'])}"
        if not _matches(bounds.get("pattern", ""), value):
            yield f"Invalid value of parameter {name}: {value!r} does not match {bounds['pattern']}"


def _size(value: Any, shape: Shape) -> float | None:
    if isinstance(value, str) and shape.type_name in STRINGS:
        return len(value)
    if isinstance(value, list | dict) and shape.type_name in ("list", "map"):
        return len(value)
    is_number = isinstance(value, int | float) and shape.type_name in NUMBERS
    return value if is_number else None


def _matches(pattern: str, value: str) -> bool:
    r"""A service matches the whole value; ``regex`` knows Java's ``\p{L}``, which ``re`` does not."""
    return not pattern or regex.fullmatch(pattern, value) is not None
