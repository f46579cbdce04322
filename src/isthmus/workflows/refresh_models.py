"""The serving code changed with a deploy: bring it to every model in service, each through its proof."""

from __future__ import annotations

from isthmus.model import layout
from isthmus.ports import Executions, Records


def refresh_models(code_version: str, *, records: Records, executions: Executions, machine: str) -> list[str]:
    """Start a roll-out of the current serving code for each champion; return the models' names.

    ``code_version`` names what changed, so that a deploy that changed nothing starts nothing twice.
    """
    refreshed = []
    for champion in records.query(layout.CHAMPIONS):
        payload = {name: champion[name] for name in ("model", "bundle", "release", "job_key")}
        name = f"{champion['model']}-{champion['release']}-code-{code_version}"[:80]
        if executions.start(machine, name, payload):
            refreshed.append(str(champion["model"]))
    return refreshed
