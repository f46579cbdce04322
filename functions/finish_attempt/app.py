"""Called by a rig that committed an outcome: answer the training's task token."""

from __future__ import annotations

import os
from typing import Any

import msgspec
from aws_lambda_powertools import Logger

from isthmus import bootstrap
from isthmus.config import StateSettings
from isthmus.workflows.train_on_rig import finish_attempt

logger = Logger()


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: object) -> Any:
    settings = StateSettings.from_env(os.environ)
    finished = finish_attempt(
        event["job_key"],
        event["fencing"],
        records=bootstrap.records(settings.table),
        tasks=bootstrap.tasks(),
    )
    return msgspec.to_builtins(finished)
