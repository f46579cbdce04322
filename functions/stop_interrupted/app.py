"""Called by EventBridge when SageMaker interrupts a spot training: stop it if a rig would take it now."""

from __future__ import annotations

import os
from typing import Any

from isthmus import bootstrap
from isthmus.config import StateSettings
from isthmus.observe import logger, observed
from isthmus.workflows.stop_interrupted import stop_interrupted


@observed
def handler(event: dict[str, Any], context: object) -> dict[str, str]:
    settings = StateSettings.from_env(os.environ)
    name = event["detail"]["TrainingJobName"]
    decision = stop_interrupted(
        name,
        now=bootstrap.clock().now(),
        blobs=bootstrap.blobs(settings.bucket),
        records=bootstrap.records(settings.table),
        devices=bootstrap.devices(settings.table),
        jobs=bootstrap.training_jobs(),
    )
    logger.info("interrupted", extra={"training_job": name, "decision": decision})
    return {"decision": decision}
