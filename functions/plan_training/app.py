"""State PlanTraining: choose the device for the next attempt."""

from __future__ import annotations

import os
from typing import Any

import msgspec

from isthmus import bootstrap
from isthmus.config import PlanTrainingSettings
from isthmus.observe import emit, logger, observed
from isthmus.workflows.plan_training import check_lost, loss, plan_training


def submitted_at(event: dict[str, Any]) -> str:
    """Of an execution whose input does not say when it was submitted: when it began."""
    given = event.get("input", {}).get("submitted_at") or event.get("started_at", "")
    return str(given)


@observed
def handler(event: dict[str, Any], context: object) -> Any:
    settings = PlanTrainingSettings.from_env(os.environ)
    check_lost(event.get("lost", 0), event.get("redrives", 0), event.get("failure", {}))
    planned = plan_training(
        event["job_key"],
        submitted_at=submitted_at(event),
        after_loss=loss(event.get("lost", 0), event.get("failure", {})),
        redrives=event.get("redrives", 0),
        # A machine of before SageMaker was asked, which a redrive still runs, knows a rig's queue alone.
        zone=settings.bucket_zone if event.get("clouds") else "",
        now=bootstrap.clock().now(),
        blobs=bootstrap.blobs(settings.bucket),
        records=bootstrap.records(settings.table),
        devices=bootstrap.devices(settings.table),
    )
    logger.info(
        "planned", extra={"job_key": event["job_key"], "rig": planned.rig, "fencing": planned.fencing}
    )
    if planned.replaces_lost:
        emit({"AttemptLost": 1}, facts={"job_key": event["job_key"]})
    return msgspec.to_builtins(planned)
