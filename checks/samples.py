"""Sample inputs: what a state machine's document holds by the time its tasks run.

``checks/samples/NAME.json`` has ``input``, the document with every ``ResultPath`` filled in, and may
have ``states``: the inputs of states that see another document, such as those inside a Map.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from checks.findings import CheckError

FOLDER = Path(__file__).parent / "samples"


def sample_input(machine: str, state: str, folder: Path = FOLDER) -> Any:
    """Return the sample input of a state."""
    path = folder / f"{machine}.json"
    if not path.exists():
        raise CheckError(f"there is no sample input for {machine}: add checks/samples/{path.name}")
    samples = json.loads(path.read_text())
    return samples.get("states", {}).get(state, samples["input"])
