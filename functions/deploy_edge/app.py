"""States DeployEdge and CheckEdge: ship the release to the core devices, see it arrive, or take it back by hand."""

from __future__ import annotations

import os
from typing import Any

import msgspec

from isthmus import bootstrap
from isthmus.config import DeployEdgeSettings
from isthmus.observe import observed
from isthmus.workflows.deploy_edge import check_edge, deploy_edge, take_back


@observed
def handler(event: dict[str, Any], context: object) -> Any:
    settings = DeployEdgeSettings.from_env(os.environ)
    model = event["model"]
    common: dict[str, Any] = {
        "settings": settings,
        "fleet": bootstrap.fleet(),
        "records": bootstrap.records(settings.table),
        "signer": bootstrap.signer(settings.signing_key),
        "clock": bootstrap.clock().now(),
    }
    if "take_back" in event:
        return msgspec.to_builtins(take_back(model, event["take_back"], **common))
    release, rollout = event["release"], event["rollout"]
    common["redrives"] = event.get("redrives", 0)
    if "deployment" in event:
        return msgspec.to_builtins(check_edge(event["deployment"], model, release, rollout, **common))
    deployed = deploy_edge(
        model,
        event["bundle"],
        release,
        rollout,
        functions=bootstrap.functions(settings.bucket),
        **common,
    )
    return msgspec.to_builtins(deployed)
