"""What a request to DynamoDB takes.

Source: Service Authorization Reference, Amazon DynamoDB; developer guide, "Using IAM policy conditions for
fine-grained access control" (LeadingKeys: the partition keys of the request) and "Using IAM with
transactions"; "DynamoDB encryption at rest", where the table's key is used in the caller's name.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from . import attached
from .calls import Call, Check
from .s3 import through

ITEM = {"GetItem": "Key", "DeleteItem": "Key", "UpdateItem": "Key", "PutItem": "Item"}
LISTS = ("Query", "Scan")
BATCHES = ("BatchGetItem", "BatchWriteItem")
TRANSACTIONS = ("TransactGetItems", "TransactWriteItems")
IN_TRANSACTIONS = {
    "Get": ("GetItem", "Key"),
    "Put": ("PutItem", "Item"),
    "Update": ("UpdateItem", "Key"),
    "Delete": ("DeleteItem", "Key"),
    "ConditionCheck": ("ConditionCheckItem", "Key"),
}
Document = Mapping[str, Any]


def checks(call: Call) -> Iterator[Check]:
    found = list(_direct(call))
    yield from found
    for table in dict.fromkeys(check.resource.split("/")[1] for check in found if "/" in check.resource):
        arn = attached.table_key(call.account, call.region, table)
        if arn and call.operation in (*ITEM, *LISTS, *BATCHES, *TRANSACTIONS):
            yield through(call, "dynamodb", "kms:Decrypt", arn, "the table is encrypted with this key")


def _direct(call: Call) -> Iterator[Check]:
    operation = call.operation
    if operation in ITEM:
        key = partition_value(call, call.text("TableName"), call.params.get(ITEM[operation], {}))
        yield _check(call, operation, call.text("TableName"), key)
    elif operation in LISTS:
        yield _list(call)
    elif operation in BATCHES:
        for table, requests in call.params.get("RequestItems", {}).items():
            yield _check(call, operation, table, *_batch_keys(call, table, requests))
    elif operation in TRANSACTIONS:
        for entry in call.params.get("TransactItems", []):
            for kind, part in entry.items():
                action, field = IN_TRANSACTIONS[kind]
                key = partition_value(call, part["TableName"], part[field])
                yield _check(call, action, part["TableName"], key)
    else:
        table = call.text("TableName") or call.text("ResourceArn")
        yield Check(f"dynamodb:{operation}", table_arn(call, table) if table else "*")


def _list(call: Call) -> Check:
    table, index = call.text("TableName"), call.text("IndexName")
    keys = {} if call.operation == "Scan" else leading(queried_key(call, table, index))
    arn = table_arn(call, table)
    return Check(f"dynamodb:{call.operation}", f"{arn}/index/{index}" if index else arn, keys)


def _check(call: Call, action: str, table: str, *values: str | None) -> Check:
    return Check(f"dynamodb:{action}", table_arn(call, table), leading(*values))


def leading(*values: str | None) -> dict[str, list[str]]:
    found = [value for value in dict.fromkeys(values) if value is not None]
    return {"dynamodb:LeadingKeys": found} if found else {}


def table_arn(call: Call, name: str) -> str:
    return name if name.startswith("arn:") else call.arn("dynamodb", f"table/{name}")


def partition_key(call: Call, table: str, index: str = "") -> str | None:
    definition = attached.table_of(call.account, call.region, table.rpartition("/")[2])
    indexes = [*definition.get("GlobalSecondaryIndexes", []), *definition.get("LocalSecondaryIndexes", [])]
    schema = definition.get("KeySchema", [])
    if index:
        schema = next((i["KeySchema"] for i in indexes if i["IndexName"] == index), [])
    return next((entry["AttributeName"] for entry in schema if entry["KeyType"] == "HASH"), None)


def partition_value(call: Call, table: str, item: Document) -> str | None:
    return text_of(item.get(partition_key(call, table) or ""))


def text_of(value: Document | None) -> str | None:
    """A typed value, for example ``{"S": "JOB#1"}``, as the condition sees it."""
    return str(next(iter(value.values()))) if value else None


def _batch_keys(call: Call, table: str, requests: Any) -> Iterator[str | None]:
    if isinstance(requests, Mapping):
        items = requests["Keys"]
    else:
        items = [next(iter(part.values())) for entry in requests for part in entry.values()]
    yield from (partition_value(call, table, item) for item in items)


def queried_key(call: Call, table: str, index: str) -> str | None:
    """The value that a query compares the partition key with."""
    name = partition_key(call, table, index)
    if name is None:
        return None
    if conditions := call.params.get("KeyConditions"):
        return text_of((conditions.get(name, {}).get("AttributeValueList") or [None])[0])
    names = call.params.get("ExpressionAttributeNames") or {}
    spellings = [name, *(alias for alias, meant in names.items() if meant == name)]
    pattern = "|".join(re.escape(spelling) for spelling in spellings)
    found = re.search(rf"(?<![\w#])(?:{pattern})\s*=\s*(:\w+)", call.text("KeyConditionExpression"))
    values = call.params.get("ExpressionAttributeValues") or {}
    return text_of(values.get(found.group(1))) if found else None
