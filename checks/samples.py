"""Sample inputs: what a state machine's document holds by the time its states run.

``checks/samples/NAME.json`` has ``input``, the document with every ``ResultPath`` filled in. A state gets
of it what every way from StartAt has set before that state. ``starts_with`` names the fields that an
execution begins with; without it, those that no state sets. ``states`` has the inputs of states that see
another document, such as those inside a Map.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from checks import flow
from checks.findings import CheckError
from checks.machines import Machine, State, nested

FOLDER = Path(__file__).parent / "samples"


def sample_inputs(machine: Machine, folder: Path = FOLDER) -> dict[str, Any]:
    """Return the sample input of every state that can be reached.

    Raises:
        CheckError: there is no sample, or it lacks a field that it says executions begin with.
    """
    samples = _samples(machine.name, folder)
    document = samples["input"]
    begins = samples.get("starts_with")
    if missing := set(begins or ()) - set(document):
        raise CheckError(
            f"checks/samples/{machine.name}.json starts with {min(missing)}, which its input lacks"
        )
    inputs = dict(_inputs(machine.definition, document, begins))
    return {**inputs, **samples.get("states", {})}


def whole_input(machine: Machine, state: str, folder: Path = FOLDER) -> Any:
    """Return the input that a state would have if every field were set by then."""
    samples = _samples(machine.name, folder)
    return samples.get("states", {}).get(state, samples["input"])


def _samples(name: str, folder: Path) -> dict[str, Any]:
    path = folder / f"{name}.json"
    if not path.exists():
        raise CheckError(f"there is no sample input for {name}: add checks/samples/{path.name}")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def _inputs(container: State, document: Any, begins: list[str] | None) -> Iterator[tuple[str, Any]]:
    written = flow.written(container)
    set_here = {field[0] for field in written}
    names = document if isinstance(document, dict) else {}
    start = frozenset((name,) for name in (begins if begins is not None else set(names) - set_here))
    for name, held in flow.entered(container, start).items():
        given = document if held is None else flow.without(document, (written | start) - held)
        yield name, given
        for inner in nested(container["States"][name]):
            yield from _inputs(inner, given, list(given) if isinstance(given, dict) else None)
