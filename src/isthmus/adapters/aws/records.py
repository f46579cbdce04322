"""``Records`` on one DynamoDB table with the keys ``pk`` and ``sk`` (docs/adr/0007)."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from botocore.exceptions import ClientError

from isthmus.adapters.aws.errors import code_of, passing_trouble
from isthmus.adapters.aws.session import client
from isthmus.errors import Conflict
from isthmus.ports import Item

SMALLEST = 1e-130
"""DynamoDB's smallest positive number; what is below rounds to zero instead of failing the write."""

_serialize = TypeSerializer().serialize
_deserialize = TypeDeserializer().deserialize


def to_wire(value: Any) -> Any:
    """Return a value as boto3's serializer wants it: DynamoDB has decimal numbers, no floats."""
    if isinstance(value, float):
        return Decimal(0) if abs(value) < SMALLEST else Decimal(repr(value))
    if isinstance(value, Mapping):
        return {str(key): to_wire(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [to_wire(entry) for entry in value]
    return value


def from_wire(value: Any) -> Any:
    """Undo ``to_wire``; a whole number comes back as int."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, dict):
        return {key: from_wire(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [from_wire(entry) for entry in value]
    return value


def _item(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _serialize(to_wire(value)) for name, value in attributes.items()}


def _expected(expect: Mapping[str, Any]) -> tuple[list[str], dict[str, str], dict[str, Any]]:
    """Return the conditions that these attributes equal, and the names and values that they use."""
    conditions = []
    for number, value in enumerate(expect.values()):
        # An attribute that was set to None holds DynamoDB's NULL; to us that is "does not exist".
        absent = f"attribute_not_exists(#e{number}) OR " if value is None else ""
        conditions.append(f"({absent}#e{number} = :e{number})")
    names = {f"#e{number}": name for number, name in enumerate(expect)}
    return conditions, names, {f":e{number}": value for number, value in enumerate(expect.values())}


def _plain(item: Mapping[str, Any]) -> Item:
    return {name: from_wire(_deserialize(value)) for name, value in item.items()}


class DynamoRecords:
    """Reads are strongly consistent: a decision is never taken on an old item."""

    def __init__(self, table: str) -> None:
        self._table = table

    @passing_trouble("DynamoDB")
    def get(self, pk: str, sk: str) -> Item | None:
        answer = client("dynamodb").get_item(
            TableName=self._table, Key=_item({"pk": pk, "sk": sk}), ConsistentRead=True
        )
        return _plain(answer["Item"]) if "Item" in answer else None

    @passing_trouble("DynamoDB")
    def query(self, pk: str, *, prefix: str = "") -> list[Item]:
        condition, values = "pk = :pk", {":pk": pk}
        if prefix:
            condition, values = "pk = :pk AND begins_with(sk, :sk)", {":pk": pk, ":sk": prefix}
        pages = (
            client("dynamodb")
            .get_paginator("query")
            .paginate(
                TableName=self._table,
                KeyConditionExpression=condition,
                ExpressionAttributeValues=_item(values),
                ConsistentRead=True,
            )
        )
        return [_plain(item) for page in pages for item in page["Items"]]

    @passing_trouble("DynamoDB")
    def put(self, item: Item) -> None:
        client("dynamodb").put_item(TableName=self._table, Item=_item(item))

    @passing_trouble("DynamoDB")
    def create(self, item: Item) -> bool:
        try:
            client("dynamodb").put_item(
                TableName=self._table, Item=_item(item), ConditionExpression="attribute_not_exists(pk)"
            )
        except ClientError as error:
            if code_of(error) == "ConditionalCheckFailedException":
                return False
            raise
        return True

    @passing_trouble("DynamoDB")
    def update(
        self,
        pk: str,
        sk: str,
        values: Mapping[str, Any],
        *,
        expect: Mapping[str, Any] | None = None,
        below: Mapping[str, int] | None = None,
    ) -> None:
        conditions, names, bound = _expected(expect or {})
        sets = []
        for number, (name, value) in enumerate(values.items()):
            names[f"#s{number}"], bound[f":s{number}"] = name, value
            sets.append(f"#s{number} = :s{number}")
        for number, (name, limit) in enumerate((below or {}).items()):
            names[f"#b{number}"], bound[f":b{number}"] = name, limit
            conditions.append(f"(attribute_not_exists(#b{number}) OR #b{number} < :b{number})")
        request: dict[str, Any] = {"ConditionExpression": " AND ".join(conditions)} if conditions else {}
        try:
            client("dynamodb").update_item(
                TableName=self._table,
                Key=_item({"pk": pk, "sk": sk}),
                UpdateExpression="SET " + ", ".join(sets),
                ExpressionAttributeNames=names,
                ExpressionAttributeValues=_item(bound),
                **request,
            )
        except ClientError as error:
            if code_of(error) == "ConditionalCheckFailedException":
                raise Conflict(f"{pk}/{sk} was changed by somebody else") from error
            raise

    @passing_trouble("DynamoDB")
    def delete(self, pk: str, sk: str, *, expect: Mapping[str, Any] | None = None) -> None:
        request: dict[str, Any] = {}
        if expect:
            conditions, names, values = _expected(expect)
            request = {
                "ConditionExpression": " AND ".join(conditions),
                "ExpressionAttributeNames": names,
                "ExpressionAttributeValues": _item(values),
            }
        try:
            key = _item({"pk": pk, "sk": sk})
            client("dynamodb").delete_item(TableName=self._table, Key=key, **request)
        except ClientError as error:
            if code_of(error) == "ConditionalCheckFailedException":
                raise Conflict(f"{pk}/{sk} was changed by somebody else") from error
            raise

    @passing_trouble("DynamoDB")
    def next_number(self, pk: str, sk: str) -> int:
        answer = client("dynamodb").update_item(
            TableName=self._table,
            Key=_item({"pk": pk, "sk": sk}),
            UpdateExpression="ADD #n :one",
            ExpressionAttributeNames={"#n": "number"},
            ExpressionAttributeValues=_item({":one": 1}),
            ReturnValues="UPDATED_NEW",
        )
        return int(_plain(answer["Attributes"])["number"])
