"""DynamoDB: the size of an item. moto refuses at 405,000 bytes and counts a replaced attribute twice.

Source: DynamoDB developer guide, "DynamoDB item sizes and formats". What an update puts inside a map or list
that the item already has is not counted.
"""

import base64
from typing import Any

from moto.dynamodb.exceptions import ItemSizeTooLarge
from moto.dynamodb.models.dynamo_type import DynamoType, LimitedSizeDict

from . import limits

COLLECTION_BYTES = 3
ELEMENT_BYTES = 1


def value_bytes(value: DynamoType) -> int:
    """The size of one value without its name."""
    kind, content = value.type, value.value
    if kind == "M":
        members = sum(len(key.encode()) + value_bytes(DynamoType(item)) for key, item in content.items())
        return COLLECTION_BYTES + ELEMENT_BYTES * len(content) + members
    if kind == "L":
        elements = sum(value_bytes(DynamoType(item)) for item in content)
        return COLLECTION_BYTES + ELEMENT_BYTES * len(content) + elements
    if kind in ("SS", "NS", "BS"):
        return sum(scalar_bytes(kind[0], item) for item in content)
    return scalar_bytes(kind, content)


def scalar_bytes(kind: str, content: Any) -> int:
    """A number takes a byte for two significant digits and one more; binary counts as it is before base64."""
    if kind == "N":
        digits = str(content).partition("E")[0].replace(".", "").strip("-+0")
        return (len(digits) + 1) // 2 + 1
    if kind == "B":
        return len(content if isinstance(content, bytes) else base64.b64decode(content))
    return len(content.encode()) if kind == "S" else 1


def attribute_bytes(name: str, value: Any) -> int:
    return len(name.encode()) + value_bytes(value if isinstance(value, DynamoType) else DynamoType(value))


def set_item(self: Any, key: str, value: Any) -> None:
    """Raises ItemSizeTooLarge, which moto answers with AWS's ValidationException."""
    others = sum(attribute_bytes(name, item) for name, item in self.items() if name != key)
    if others + attribute_bytes(key, value) > limits.DYNAMODB_ITEM.value:
        raise ItemSizeTooLarge
    dict.__setitem__(self, key, value)


def apply() -> None:
    LimitedSizeDict.__setitem__ = set_item
