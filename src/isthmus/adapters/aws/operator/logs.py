"""The functions' log group, on CloudWatch Logs."""

from __future__ import annotations

from collections.abc import Callable

from isthmus.adapters.aws.errors import passing_trouble
from isthmus.adapters.aws.operator.home import Home, call, listed
from isthmus.model import layout
from isthmus.model.inventory import Thing


class LogGroups:
    """One for all functions, the models' own included."""

    kind = "log group"

    def __init__(self, home: Home) -> None:
        self._name = layout.log_group(home.stack)

    @passing_trouble("CloudWatch Logs")
    def find(self) -> list[Thing]:
        return [
            Thing(
                id=self._name,
                name=self._name,
                size_bytes=int(entry.get("storedBytes", 0)),
                kept_by=("logs",),
                price="logs_gb_month",
            )
            for entry in listed("logs", "describe_log_groups", "logGroups", logGroupNamePrefix=self._name)
            if entry["logGroupName"] == self._name
        ]

    @passing_trouble("CloudWatch Logs")
    def remove(self, thing: Thing, report: Callable[[str], None]) -> None:
        call("logs", "delete_log_group", logGroupName=thing.id)
