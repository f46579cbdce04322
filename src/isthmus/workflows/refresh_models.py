"""The serving code changed with a deploy: bring it to every model in service, each through its proof."""

from __future__ import annotations

from isthmus import documents
from isthmus.model import layout
from isthmus.ports import Executions, Records


def refresh_models(request_id: str, *, records: Records, executions: Executions, machine: str) -> list[str]:
    """Start a roll-out of the current serving code for each champion; return the models' names.

    ``request_id`` is CloudFormation's: it names the roll-outs, so that an event that is delivered twice
    starts one, and a deploy that brings old code back starts another.
    """
    refreshed, mark = [], documents.sha256(request_id.encode())[:16]
    for champion in records.query(layout.CHAMPIONS):
        payload = {name: champion[name] for name in ("model", "bundle", "release", "job_key")}
        payload["against"] = champion["release"]
        name = f"{champion['model']}-{champion['release']}-code-{mark}"[:80]
        if executions.start(machine, name, payload):
            refreshed.append(str(champion["model"]))
    return refreshed
