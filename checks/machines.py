"""The state machines of the template, with what the template substitutes in them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cfnlint.decode import cfn_yaml

from checks.findings import CheckError
from checks.substitutions import Substitutions

State = dict[str, Any]


@dataclass(frozen=True)
class Machine:
    """One definition. ``definition`` has every ``${Name}`` replaced by a plausible value."""

    name: str
    path: Path
    definition: dict[str, Any]

    def states(self) -> Iterator[tuple[str, State]]:
        """Yield every state by its name, those inside Map and Parallel states too."""
        yield from walk(self.definition)


def walk(container: dict[str, Any]) -> Iterator[tuple[str, State]]:
    for inner in containers(container):
        yield from inner["States"].items()


def containers(container: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a definition and every definition nested in it: branches and item processors."""
    yield container
    for state in container["States"].values():
        for inner in nested(state):
            yield from containers(inner)


def nested(state: State) -> list[dict[str, Any]]:
    """Return the definitions right inside a state."""
    inside = ("ItemProcessor", "Iterator")
    return [*state.get("Branches", []), *(state[name] for name in inside if name in state)]


def load_machines(root: Path) -> list[Machine]:
    """Read the machines that ``template.yaml`` below ``root`` names.

    Raises:
        CheckError: a definition is no JSON, or needs a substitution that the template does not make.
    """
    template = cfn_yaml.load(str(root / "template.yaml"))
    substitutions = Substitutions(template)
    return [
        _load(root / entry["Properties"]["DefinitionUri"], substitutions.of(entry["Properties"]))
        for entry in template["Resources"].values()
        if entry["Type"] == "AWS::Serverless::StateMachine"
    ]


def _load(path: Path, values: dict[str, str]) -> Machine:
    def fill(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise CheckError(f"{path.name} needs ${{{match[1]}}}: add it to its DefinitionSubstitutions")
        return values[match[1]]

    try:
        definition = json.loads(re.sub(r"\$\{(\w+)\}", fill, path.read_text()))
    except json.JSONDecodeError as error:
        raise CheckError(f"{path.name} is no JSON: {error}") from error
    return Machine(path.name.removesuffix(".asl.json"), path, definition)
