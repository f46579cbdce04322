"""Who holds the stack's managed policies: IAM deletes none that is attached."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from isthmus.adapters.aws.errors import passing_trouble
from isthmus.adapters.aws.operator.home import Home, call, listed
from isthmus.model.inventory import Thing

ENTITIES = {
    "PolicyUsers": ("user", "UserName"),
    "PolicyGroups": ("group", "GroupName"),
    "PolicyRoles": ("role", "RoleName"),
}


class PolicyAttachments:
    """RigPolicy and CoreDevicePolicy at identities that are the user's own, and stay.

    CloudFormation fails to delete a policy that is attached (IAM API reference, DeletePolicy: it
    must first be detached from all users, groups and roles).
    """

    kind = "policy attachment"

    def __init__(self, home: Home) -> None:
        self._home = home

    @passing_trouble("IAM")
    def find(self) -> list[Thing]:
        return [thing for arn in self._policies() for thing in self._attached(arn)]

    @passing_trouble("IAM")
    def remove(self, thing: Thing, report: Callable[[str], None]) -> None:
        arn, kind, name = thing.id.rsplit("|", 2)
        member = next(member for known, member in ENTITIES.values() if known == kind)
        call("iam", f"detach_{kind}_policy", PolicyArn=arn, **{member: name})

    def _policies(self) -> list[str]:
        resources = listed(
            "cloudformation", "list_stack_resources", "StackResourceSummaries", StackName=self._home.stack
        )
        return [
            str(entry["PhysicalResourceId"])
            for entry in resources
            if entry["ResourceType"] == "AWS::IAM::ManagedPolicy"
            and entry["ResourceStatus"] != "DELETE_COMPLETE"
            and entry.get("PhysicalResourceId")
        ]

    def _attached(self, arn: str) -> Iterator[Thing]:
        for key, (kind, member) in ENTITIES.items():
            for entity in listed("iam", "list_entities_for_policy", key, PolicyArn=arn):
                name = entity[member]
                policy = arn.rsplit("/", 1)[1]
                yield Thing(id=f"{arn}|{kind}|{name}", name=f"{policy} at the {kind} {name}")
