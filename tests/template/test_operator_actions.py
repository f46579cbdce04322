"""What ``isthmus doctor`` asks for is what the operator's commands call, and what the template makes."""

from __future__ import annotations

import ast
import importlib.resources
import json
import re
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

import pytest
from calls import actions_in
from cloudformation import ROOT, Template

from benchmarks.idle_cost import resources_of
from isthmus.adapters.aws.operator.actions import ACTIONS, ANYTHING, CALLED, MADE, TRANSFORM, named

AWS = ROOT / "src/isthmus/adapters/aws"
NOT_THE_OPERATORS = {
    "rig_agent": "runs as RigRole, or under RigPolicy with an identity of its own",
    "presence": "is the agent's",
    "tasks": "answers as an approver, under ApproverPolicy",
}
"""What the command line takes from the composition root and other rights than a person's carry out."""
ASKED_ANYWAY = {
    "sts:GetCallerIdentity": "everybody may",
    "iam:GetRole": "of the role whose rights are asked for; the check says so if it is refused",
    "iam:SimulatePrincipalPolicy": "the check itself; it says so if it is refused",
}


def command_adapters() -> Iterator[Path]:
    """Yield the adapters that the command line reaches, by what it takes from the composition roots."""
    roots = {path.stem: ast.parse(path.read_text()) for path in (ROOT / "src/isthmus").glob("bootstrap*.py")}
    makers = {
        (root, node.name): node
        for root, tree in roots.items()
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
    }
    taken = {
        (node.value.id, node.attr)
        for path in (ROOT / "src/isthmus/cli").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in roots
    }
    waiting, seen = {maker for maker in taken if maker[1] not in NOT_THE_OPERATORS}, set()
    while waiting:
        maker = waiting.pop()
        seen.add(maker)
        for node in ast.walk(makers[maker]):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("isthmus.adapters.aws."):
                yield ROOT / "src" / f"{str(node.module).replace('.', '/')}.py"
            called = called_maker(node, maker[0], roots)
            if called in makers and called not in seen:
                waiting.add(called)


def called_maker(node: ast.AST, root: str, roots: Container[str]) -> tuple[str, str]:
    """Return the maker that a name in a composition root may stand for: its own, or another root's."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in roots:
        return node.value.id, node.attr
    return root, node.id if isinstance(node, ast.Name) else ""


def test_every_call_of_the_operators_commands_is_asked_for_and_nothing_else() -> None:
    paths = {*(AWS / "operator").glob("*.py"), *filter(Path.is_file, command_adapters())}
    assert {path.name for path in paths} >= {"pipeline.py", "usage.py", "rigs.py", "edge.py", "keys.py"}
    called = set(actions_in(paths)) - set(ASKED_ANYWAY)
    asked = {action for actions in named([CALLED]).values() for action in actions}
    assert called - asked == set(), "add it to CALLED, with a resource that it takes"
    assert asked - called == set(), "nothing calls it any more"


def test_the_finder_finds_calls_of_each_form() -> None:
    found = set(actions_in((AWS / "operator").glob("*.py")))
    assert {
        "greengrass:DeleteComponent",  # call("greengrassv2", …)
        "greengrass:ListDeployments",  # listed(…)
        "iam:DetachGroupPolicy",  # an operation put together
        "kms:ScheduleKeyDeletion",  # of a client with a name
        "s3:DeleteObjectVersion",
        "s3:ListBucketVersions",  # a paginator
        "dynamodb:DescribeTable",  # a waiter
    } <= found


def test_every_type_of_the_template_is_asked_for_and_nothing_else(template: Template) -> None:
    assert set(MADE) == {entry["Type"] for entry in resources_of(template).values()}


@pytest.fixture(scope="module")
def reference() -> dict[str, Any]:
    """The Service Authorization Reference, as cfn-lint ships it."""
    text = (importlib.resources.files("cfnlint") / "data/AdditionalSpecs/Policies.json").read_text()
    return dict(json.loads(text))


ALSO = {
    # The reference's file has one greengrass for both versions, and names version 1's resources.
    "greengrass:ListDeployments": ANYTHING,
    # "the policy should include the ... transform/Serverless-2016-10-31 resource-level permission":
    # CloudFormation user guide, "Control access with IAM".
    "cloudformation:CreateChangeSet": TRANSFORM,
}
"""What an action takes besides what the file says."""


def accepts(reference: dict[str, Any], action: str, resource: str) -> bool:
    """Whether an action takes a resource of this form."""
    service, name = action.split(":")
    known = reference[service]
    kinds = known["Actions"][name.lower()].get("Resources", [])
    if ALSO.get(action) == resource or (not kinds and resource == ANYTHING):
        return True
    formats = [known["Resources"][kind.lower()]["ARNFormats"] for kind in kinds]
    place = re.sub(r"\{(\w+)\}", lambda m: f"${{{m[1].capitalize()}}}", resource.replace("{stack}", "s"))
    shapes = (re.escape(form).replace(r"\.\*", ".*") for forms in formats for form in forms)
    return any(re.fullmatch(shape, "arn:${Partition}:" + place) for shape in shapes)


@pytest.mark.parametrize("resource", ACTIONS)
def test_every_action_exists_and_takes_the_resource_it_stands_with(
    reference: dict[str, Any], resource: str
) -> None:
    """The simulator takes no action that does not exist, and refuses one on a resource of another type."""
    wrong = [action for action in ACTIONS[resource] if not accepts(reference, action, resource)]
    assert not wrong


def test_an_action_of_another_resource_would_be_found(reference: dict[str, Any]) -> None:
    layer = "lambda:{region}:{account}:layer:{stack}-x"
    assert accepts(reference, "lambda:PublishLayerVersion", layer)
    assert not accepts(reference, "lambda:DeleteFunction", layer)
    assert not accepts(reference, "lambda:DeleteFunction", ANYTHING)
    assert not accepts(reference, "lambda:ListFunctions", layer)
