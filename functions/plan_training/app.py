"""State PlanTraining: choose the device for the next attempt."""

from __future__ import annotations

import os
from typing import Any

import msgspec
from aws_lambda_powertools import Logger

from isthmus import bootstrap
from isthmus.config import StateSettings
from isthmus.workflows.plan_training import plan_training

logger = Logger()


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: object) -> Any:
    settings = StateSettings.from_env(os.environ)
    planned = plan_training(
        event["job_key"],
        blobs=bootstrap.blobs(settings.bucket),
        records=bootstrap.records(settings.table),
        devices=bootstrap.devices(settings.table),
    )
    logger.info(
        "planned", extra={"job_key": event["job_key"], "rig": planned.rig, "fencing": planned.fencing}
    )
    return msgspec.to_builtins(planned)
