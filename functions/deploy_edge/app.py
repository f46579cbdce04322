"""States DeployEdge and CheckEdge: ship the release to the core devices, and see it arrive."""

from __future__ import annotations

import os
from typing import Any

import msgspec
from aws_lambda_powertools import Logger

from isthmus import bootstrap
from isthmus.config import DeployEdgeSettings
from isthmus.workflows.deploy_edge import check_edge, deploy_edge

logger = Logger()


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: object) -> Any:
    settings = DeployEdgeSettings.from_env(os.environ)
    model, release, rollout = event["model"], event["release"], event["rollout"]
    fleet, records = bootstrap.fleet(), bootstrap.records(settings.table)
    now = bootstrap.clock().now()
    if "deployment" in event:
        deployment = event["deployment"]
        progress = check_edge(
            deployment, model, release, rollout, settings=settings, fleet=fleet, records=records, clock=now
        )
        return msgspec.to_builtins(progress)
    deployed = deploy_edge(
        model,
        event["bundle"],
        release,
        rollout,
        settings=settings,
        functions=bootstrap.functions(settings.bucket),
        fleet=fleet,
        records=records,
        signer=bootstrap.signer(settings.signing_key),
        clock=now,
    )
    return msgspec.to_builtins(deployed)
