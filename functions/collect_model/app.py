"""State CollectModel: judge how a training on SageMaker ended, and bring its model to where a rig's lies."""

from __future__ import annotations

import os
from typing import Any

import msgspec

from isthmus import bootstrap
from isthmus.config import StateSettings
from isthmus.errors import AttemptLost
from isthmus.observe import emit, observed
from isthmus.workflows.collect_model import collect_model


@observed
def handler(event: dict[str, Any], context: object) -> Any:
    settings = StateSettings.from_env(os.environ)
    with bootstrap.workdir() as workdir:
        try:
            collected = collect_model(
                event["job_key"],
                event["fencing"],
                redrives=event["redrives"],
                failure=event["failure"],
                blobs=bootstrap.blobs(settings.bucket),
                records=bootstrap.records(settings.table),
                jobs=bootstrap.training_jobs(),
                workdir=workdir,
            )
        except AttemptLost:
            emit({"AttemptLost": 1}, facts={"job_key": event["job_key"]})
            raise
    emit({"TrainingSeconds": collected.seconds}, facts={"job_key": event["job_key"]})
    return msgspec.to_builtins(collected)
