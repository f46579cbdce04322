"""State PrepareSageMaker: lay out what a training on SageMaker reads."""

from __future__ import annotations

import os
from typing import Any

import msgspec

from isthmus import bootstrap
from isthmus.config import PrepareSageMakerSettings
from isthmus.observe import logger, observed
from isthmus.workflows.prepare_sagemaker import prepare_sagemaker


@observed
def handler(event: dict[str, Any], context: object) -> Any:
    settings = PrepareSageMakerSettings.from_env(os.environ)
    with bootstrap.workdir() as workdir:
        prepared = prepare_sagemaker(
            event["job_key"],
            event["plan"],
            stack=settings.stack,
            bucket=settings.bucket,
            zone=settings.bucket_zone,
            redrives=event["redrives"],
            now=bootstrap.clock().now(),
            blobs=bootstrap.blobs(settings.bucket),
            records=bootstrap.records(settings.table),
            jobs=bootstrap.training_jobs(),
            workdir=workdir,
        )
    logger.info("prepared", extra={"job_key": event["job_key"], "training_job": prepared.name})
    return msgspec.to_builtins(prepared)
