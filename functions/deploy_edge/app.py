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
    settings, fleet = DeployEdgeSettings.from_env(os.environ), bootstrap.fleet()
    if "deployment" in event:
        return msgspec.to_builtins(check_edge(event["deployment"], settings.edge_target, fleet=fleet))
    deployed = deploy_edge(
        event["model"],
        event["bundle"],
        event["release"],
        event["rollout"],
        settings=settings,
        functions=bootstrap.functions(settings.bucket),
        fleet=fleet,
        records=bootstrap.records(settings.table),
        signer=bootstrap.signer(settings.signing_key),
        clock=bootstrap.clock().now(),
    )
    return msgspec.to_builtins(deployed)
