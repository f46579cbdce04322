"""The states of the machine ``deploy_cloud``, and the event of an execution of it that ended badly."""

from __future__ import annotations

import os
from typing import Any

from isthmus import bootstrap
from isthmus.config import DeployCloudSettings
from isthmus.observe import correlation_id, emit, observed
from isthmus.workflows.deploy_cloud import act, after_the_end


@observed
def handler(event: dict[str, Any], context: object) -> Any:
    result = _run(event, DeployCloudSettings.from_env(os.environ))
    if result.get("reverted"):
        emit({"RolloutReverted": 1}, facts={"rollout": correlation_id(event)})
    return result


def _run(event: dict[str, Any], settings: DeployCloudSettings) -> Any:
    if "detail" in event:
        return after_the_end(
            event["detail"],
            records=bootstrap.records(settings.table),
            functions=bootstrap.functions(settings.bucket),
            events=bootstrap.events(settings.event_bus),
        )
    with bootstrap.workdir() as workdir:
        return act(
            event,
            settings,
            blobs=bootstrap.blobs(settings.bucket),
            records=bootstrap.records(settings.table),
            functions=bootstrap.functions(settings.bucket),
            figures=bootstrap.call_figures(),
            signer=bootstrap.signer(settings.signing_key),
            workdir=workdir,
            now=bootstrap.now(),
            clock=bootstrap.clock().now(),
        )
