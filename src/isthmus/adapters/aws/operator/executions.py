"""Running executions of a stack's state machines."""

from __future__ import annotations

from collections.abc import Callable

from isthmus.adapters.aws.errors import passing_trouble
from isthmus.adapters.aws.operator.home import Home, call, listed
from isthmus.model import layout
from isthmus.model.inventory import Thing


class RunningExecutions:
    """Of both machines, the outer one's first: stopping it leaves the inner one to be stopped too."""

    kind = "running execution"

    def __init__(self, home: Home) -> None:
        self._home = home

    @passing_trouble("Step Functions")
    def find(self) -> list[Thing]:
        return [
            Thing(id=entry["executionArn"], name=entry["name"], note=machine)
            for machine in layout.machines(self._home.stack)
            for entry in listed(
                "stepfunctions",
                "list_executions",
                "executions",
                stateMachineArn=self._home.arn("states", f"stateMachine:{machine}"),
                statusFilter="RUNNING",
            )
        ]

    @passing_trouble("Step Functions")
    def remove(self, thing: Thing, report: Callable[[str], None]) -> None:
        call("stepfunctions", "stop_execution", executionArn=thing.id, cause="the stack is being removed")
