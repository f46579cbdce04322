"""A dataset manifest was created in the bucket (S3 event through EventBridge)."""

from __future__ import annotations

import os
from typing import Any

from isthmus import bootstrap
from isthmus.config import StartPipelineSettings
from isthmus.observe import logger, observed
from isthmus.workflows.start_pipeline import start_pipeline


@observed
def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    settings = StartPipelineSettings.from_env(os.environ)
    started = start_pipeline(
        event["detail"]["object"]["key"],
        submitted_at=event.get("time", ""),
        blobs=bootstrap.blobs(settings.bucket),
        executions=bootstrap.executions(),
        machine=settings.train_and_deploy,
    )
    logger.info("pipeline", extra={"job_key": started.job_key, "new": started.new})
    return {"job_key": started.job_key, "new": started.new}
