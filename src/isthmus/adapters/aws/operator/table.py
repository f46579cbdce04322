"""The table, on Amazon DynamoDB."""

from __future__ import annotations

from collections.abc import Callable

from isthmus.adapters.aws.errors import passing_trouble
from isthmus.adapters.aws.operator.home import Home, call, listed
from isthmus.adapters.aws.session import client
from isthmus.model import layout
from isthmus.model.inventory import Thing

OWNERS = (layout.STACK_TAG, "aws:cloudformation:stack-name")
"""CloudFormation tags what it makes by itself; a table of an earlier version has that tag alone."""


class Tables:
    """By its tag, since CloudFormation made up its name; also one kept from an earlier stack."""

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
            if name == known or (name.startswith(f"{self._home.stack}-") and self._tagged(name))
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

    def _tagged(self, name: str) -> bool:
        arn = self._home.arn("dynamodb", f"table/{name}")
        tags = listed("dynamodb", "list_tags_of_resource", "Tags", ResourceArn=arn)
        return any(tag["Key"] in OWNERS and tag["Value"] == self._home.stack for tag in tags)
