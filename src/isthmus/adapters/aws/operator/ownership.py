"""Whose a thing is that has a stack's name: another application's stack may have that name too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isthmus.errors import ForeignStack
from isthmus.model import layout

DESCRIPTION = "isthmus: "
"""How the template's description begins, in every version."""
EMPTY = "REVIEW_IN_PROGRESS"
"""A stack "without any templates or resources" (CloudFormation user guide, stack status codes): it has
no description yet, and nothing that could be lost."""


def outputs_of(stack: Mapping[str, Any]) -> dict[str, str]:
    """Return the outputs of a stack as DescribeStacks tells them."""
    return {entry["OutputKey"]: entry["OutputValue"] for entry in stack.get("Outputs", [])}


def is_ours(stack: Mapping[str, Any], bucket: str) -> bool:
    """Whether a stack was made from isthmus's template; ``bucket`` is what its data bucket would be called.

    Its outputs tell, by the names that follow from the stack's: every version has these three. A stack
    that never came up has none of them; there the template's description tells.
    """
    outputs = outputs_of(stack)
    if not outputs:
        return stack["StackStatus"] == EMPTY or str(stack.get("Description", "")).startswith(DESCRIPTION)
    machine = outputs.get("TrainAndDeployMachine", "").rpartition(":")[2]
    named = machine == layout.machines(stack["StackName"])[0] and outputs.get("Bucket") == bucket
    return named and bool(outputs.get("Table"))


def refuse_foreign(stack: Mapping[str, Any], bucket: str) -> None:
    """Refuse a stack that is another application's.

    Raises:
        ForeignStack: it was not made from isthmus's template.
    """
    if not is_ours(stack, bucket):
        found = ", ".join(sorted(outputs_of(stack))) or "none"
        raise ForeignStack(
            f"the stack {stack['StackName']} is not one of isthmus, whose outputs Bucket, Table and "
            f"TrainAndDeployMachine bear the stack's name (it is {stack['StackStatus']}, with these outputs: "
            f"{found}); name yours with --stack or ISTHMUS_STACK"
        )
