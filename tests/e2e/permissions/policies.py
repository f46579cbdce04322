"""The policies of a deployed stack's identities, and how to take one permission away for a while."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from demo.system import System
from tests.e2e import world
from tests.e2e.cleanup import client, listed
from tests.e2e.permissions import removals

Document = dict[str, Any]
HOLDERS = {"ApproverPolicy": "approver"}
"""Whom the demo and the tests give a managed policy to: the identity's name is the stack's with this behind it."""


def roles(system: System) -> dict[str, str]:
    """Return the stack's roles: logical id of the function or machine to the role's name."""
    found = listed(
        system, "cloudformation", "list_stack_resources", "StackResourceSummaries", StackName=system.stack
    )
    return {
        entry["LogicalResourceId"].removesuffix("Role"): entry["PhysicalResourceId"]
        for entry in found
        if entry["ResourceType"] == "AWS::IAM::Role"
    }


def identities(system: System) -> dict[str, str]:
    """Return the name of every identity that has a policy of the stack, by the policy's holder in the template."""
    return {**roles(system), **{name: f"{system.stack}-{end}" for name, end in HOLDERS.items()}}


def documents(system: System, name: str) -> list[Document]:
    """Return an identity's policies that the template wrote; those of AWS itself are not ours to narrow."""
    iam = client(system, "iam")
    if name in HOLDERS:
        return [managed(system, world.outputs(system)[name])]
    role = roles(system)[name]
    names = iam.list_role_policies(RoleName=role)["PolicyNames"]
    return [iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"] for policy in names]


def managed(system: System, arn: str) -> Document:
    """Return the document of a managed policy's default version."""
    iam = client(system, "iam")
    version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
    return dict(iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"])


@contextmanager
def without(system: System, name: str, action: str) -> Iterator[None]:
    """Take an action from everything that an identity may do, and give it back at the end."""
    end = removals.begin(system, identities(system)[name], action)
    try:
        if name in HOLDERS:
            yield from _managed_without(system, world.outputs(system)[name], action)
        else:
            yield from _role_without(system, roles(system)[name], action)
    finally:
        end()


def _role_without(system: System, role: str, action: str) -> Iterator[None]:
    iam, before = client(system, "iam"), {}
    for policy in iam.list_role_policies(RoleName=role)["PolicyNames"]:
        before[policy] = iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]
        _put(iam, role, policy, reduced(before[policy], action))
    try:
        yield
    finally:
        for policy, document in before.items():
            _put(iam, role, policy, document)


def _put(iam: Any, role: str, policy: str, document: Document) -> None:
    iam.put_role_policy(RoleName=role, PolicyName=policy, PolicyDocument=json.dumps(document))


def _managed_without(system: System, arn: str, action: str) -> Iterator[None]:
    iam = client(system, "iam")
    before = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
    document = json.dumps(reduced(managed(system, arn), action))
    made = iam.create_policy_version(PolicyArn=arn, PolicyDocument=document, SetAsDefault=True)
    try:
        yield
    finally:
        iam.set_default_policy_version(PolicyArn=arn, VersionId=before)
        iam.delete_policy_version(PolicyArn=arn, VersionId=made["PolicyVersion"]["VersionId"])


def reduced(document: Document, action: str) -> Document:
    """Return the document without the action.

    Raises:
        LookupError: it does not allow the action, so taking it away would prove nothing.
    """
    kept, taken = [], False
    for statement in document["Statement"]:
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        rest = [entry for entry in actions if entry != action]
        taken = taken or len(rest) < len(actions)
        kept += [{**statement, "Action": rest}] if rest else []
    if not taken:
        raise LookupError(f"no statement allows {action}: {document}")
    return {**document, "Statement": kept}
