"""The template as data: YAML with CloudFormation's short tags in their long form."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
Template = dict[str, Any]


class CloudFormationLoader(yaml.SafeLoader):
    """Reads ``!Ref X`` as ``{"Ref": "X"}`` and ``!Sub X`` as ``{"Fn::Sub": "X"}``."""


def _tag(loader: Any, suffix: str, node: yaml.Node) -> dict[str, Any]:
    name = suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}"
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {name: value}


CloudFormationLoader.add_multi_constructor("!", _tag)


def load_template() -> Template:
    loaded: Template = yaml.load((ROOT / "template.yaml").read_text(), Loader=CloudFormationLoader)
    return loaded


def resources(template: Template, kind: str) -> dict[str, Any]:
    """Return the properties of every resource of a type, by logical id."""
    return {
        name: entry.get("Properties", {})
        for name, entry in template["Resources"].items()
        if entry["Type"] == kind
    }


def functions(template: Template) -> dict[str, Any]:
    return resources(template, "AWS::Serverless::Function")


def folder(name: str, properties: dict[str, Any]) -> str:
    """Return the folder whose ``app.py`` a function runs, from the repository's root."""
    code, module = properties["CodeUri"].strip("/"), properties["Handler"].split(".")
    return "/".join([code, *module[:-2]])


def environment(template: Template, properties: dict[str, Any]) -> set[str]:
    """Return the names of a function's variables, the global ones included."""
    shared = template["Globals"]["Function"]["Environment"]["Variables"]
    own = properties.get("Environment", {}).get("Variables", {})
    return {*shared, *own}


def statements(template: Template) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every identity-policy statement with the resource that holds it."""
    for name, entry in template["Resources"].items():
        properties = entry.get("Properties", {})
        for policy in properties.get("Policies", []):
            document = policy.get("PolicyDocument", policy)  # a role's own has a name beside it
            yield from ((name, statement) for statement in document["Statement"])
        if entry["Type"] == "AWS::IAM::ManagedPolicy":
            yield from ((name, statement) for statement in properties["PolicyDocument"]["Statement"])


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
