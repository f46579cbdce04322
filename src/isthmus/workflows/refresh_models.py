"""The serving code changed with a deploy: bring it to every model in service, each through its proof."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isthmus import documents
from isthmus.model import layout
from isthmus.ports import Executions, Records


def refresh_models(
    serving: Mapping[str, Any], *, records: Records, executions: Executions, machine: str
) -> list[str]:
    """Start a roll-out of the current serving code for each champion; return the models' names.

    ``serving`` is what a model's function now runs: its code's version, layers and memory. It names
    the roll-out, so that an event that is delivered twice starts one.
    """
    refreshed, code_version = [], documents.digest(dict(serving))[:16]
    for champion in records.query(layout.CHAMPIONS):
        payload = {name: champion[name] for name in ("model", "bundle", "release", "job_key")}
        name = f"{champion['model']}-{champion['release']}-code-{code_version}"[:80]
        if executions.start(machine, name, payload):
            refreshed.append(str(champion["model"]))
    return refreshed
