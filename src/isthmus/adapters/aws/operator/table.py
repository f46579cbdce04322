"""The table, on Amazon DynamoDB."""

from __future__ import annotations

from collections.abc import Callable

from isthmus.adapters.aws.errors import passing_trouble
from isthmus.adapters.aws.operator.home import Home, call, listed
from isthmus.adapters.aws.session import client
from isthmus.model.inventory import Thing

FORMATION_TAG = "aws:cloudformation:stack-name"
"""CloudFormation tags what it makes by itself; a table of version 0.1.0 has that tag alone."""


class Tables:
    """By its tag, since CloudFormation made up its name; also one kept from an earlier stack.

    CloudFormation's own tag alone proves nothing, for another application's stack may have had the name:
    such a table must also be encrypted with the stack's DataKey.
    """

    kind = "table"

    def __init__(self, home: Home) -> None:
        self._home = home

    @passing_trouble("DynamoDB")
    def find(self) -> list[Thing]:
        known = self._home.outputs().get("Table", "")
        names = listed("dynamodb", "list_tables", "TableNames")
        return [
            self._thing(name)
            for name in names
            if name == known or (name.startswith(f"{self._home.stack}-") and self._is_ours(name))
        ]

    @passing_trouble("DynamoDB")
    def remove(self, thing: Thing, report: Callable[[str], None]) -> None:
        call("dynamodb", "delete_table", TableName=thing.id)
        client("dynamodb").get_waiter("table_not_exists").wait(
            TableName=thing.id, WaiterConfig={"Delay": 2, "MaxAttempts": 150}
        )

    def _thing(self, name: str) -> Thing:
        table = call("dynamodb", "describe_table", TableName=name).get("Table", {})
        return Thing(
            id=name,
            name=name,
            items=int(table.get("ItemCount", 0)),
            size_bytes=int(table.get("TableSizeBytes", 0)),
            kept_by=("records",),
            price="dynamodb_gb_month",
            note="counted by DynamoDB every six hours",
        )

    def _is_ours(self, name: str) -> bool:
        arn = self._home.arn("dynamodb", f"table/{name}")
        entries = listed("dynamodb", "list_tags_of_resource", "Tags", ResourceArn=arn)
        tags = {tag["Key"]: tag["Value"] for tag in entries}
        made_here = tags.get(FORMATION_TAG) == self._home.stack
        return self._home.owns(tags, otherwise=made_here and self._home.owns_key(_key_of(name)))


def _key_of(table: str) -> str:
    described = call("dynamodb", "describe_table", TableName=table).get("Table", {})
    return str(described.get("SSEDescription", {}).get("KMSMasterKeyArn", ""))
