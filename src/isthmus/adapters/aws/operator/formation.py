"""The stack itself, on AWS CloudFormation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from isthmus.adapters.aws.errors import passing_trouble
from isthmus.adapters.aws.operator.home import Home, call, listed
from isthmus.adapters.aws.operator.ownership import refuse_foreign
from isthmus.adapters.aws.session import client
from isthmus.errors import StackNotDeleted
from isthmus.model.inventory import Thing
from isthmus.ports import Clock
from isthmus.workflows.destroy_stack import STACK

POLL_SECONDS = 2.0
MAX_POLLS = 1800
"""An hour: what a custom resource that does not answer may take."""


class StackItself:
    """Everything that the template holds and does not retain."""

    kind = STACK

    def __init__(self, home: Home, clock: Clock) -> None:
        self._home, self._clock = home, clock

    @passing_trouble("CloudFormation")
    def find(self) -> list[Thing]:
        """Return the stack.

        Raises:
            ForeignStack: there is one of that name, and it is another application's.
        """
        stack = self._described(self._home.stack)
        if not stack or stack["StackStatus"] == "DELETE_COMPLETE":
            return []
        refuse_foreign(stack, self._home.bucket)
        there = sum(status != "DELETE_COMPLETE" for _, status, _ in self._resources(stack["StackId"]))
        note = f"{stack['StackStatus']}, {there} resources"
        blocked = _blocked(stack)
        return [Thing(id=stack["StackId"], name=self._home.stack, note=note, blocked=blocked)]

    @passing_trouble("CloudFormation")
    def remove(self, thing: Thing, report: Callable[[str], None]) -> None:
        """Delete the stack and wait until it is gone.

        Raises:
            StackNotDeleted: CloudFormation failed; the message names the resources and their reasons.
        """
        client("cloudformation").delete_stack(StackName=thing.id)
        told = -1
        for _ in range(MAX_POLLS):
            stack = self._described(thing.id)
            if not stack or stack["StackStatus"] == "DELETE_COMPLETE":
                return
            resources = self._resources(thing.id)
            if stack["StackStatus"] == "DELETE_FAILED":
                raise StackNotDeleted(self._reasons(stack, resources))
            gone = sum(status in ("DELETE_COMPLETE", "DELETE_SKIPPED") for _, status, _ in resources)
            if gone != told:
                report(f"{gone} of {len(resources)} resources are gone")
                told = gone
            self._clock.sleep(POLL_SECONDS)
        raise StackNotDeleted(f"the stack {thing.name} is still being deleted; run the command again later")

    def _described(self, stack: str) -> dict[str, Any]:
        found = call("cloudformation", "describe_stacks", StackName=stack).get("Stacks", [])
        return dict(found[0]) if found else {}

    def _resources(self, stack: str) -> list[tuple[str, str, str]]:
        """Return each resource's logical id, status and reason."""
        entries = listed("cloudformation", "list_stack_resources", "StackResourceSummaries", StackName=stack)
        return [
            (
                str(entry["LogicalResourceId"]),
                str(entry["ResourceStatus"]),
                str(entry.get("ResourceStatusReason", "")),
            )
            for entry in entries
        ]

    def _reasons(self, stack: dict[str, Any], resources: list[tuple[str, str, str]]) -> str:
        failed = [f"{name}: {reason}" for name, status, reason in resources if status == "DELETE_FAILED"]
        why = "; ".join(failed) or stack.get("StackStatusReason", "no reason given")
        return f"CloudFormation could not delete the stack {self._home.stack} ({why}); mend it and run this again"


def _blocked(stack: dict[str, Any]) -> str:
    """Return why CloudFormation would not delete the stack now, or nothing."""
    name, status = stack["StackName"], stack["StackStatus"]
    if status.endswith("_IN_PROGRESS") and status not in ("DELETE_IN_PROGRESS", "REVIEW_IN_PROGRESS"):
        return f"is {status}; wait for the end of it"
    if stack.get("EnableTerminationProtection"):
        return (
            "is protected; take that off by `aws cloudformation update-termination-protection "
            f"--no-enable-termination-protection --stack-name {name}`"
        )
    return ""
