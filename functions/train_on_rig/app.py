"""State TrainOnRig: hand the training's task token to the rig that holds the lease."""

from __future__ import annotations

import os
from typing import Any

from aws_lambda_powertools import Logger

from isthmus import bootstrap
from isthmus.config import StateSettings
from isthmus.workflows.train_on_rig import train_on_rig

logger = Logger()


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: object) -> None:
    settings = StateSettings.from_env(os.environ)
    records = bootstrap.records(settings.table)
    train_on_rig(event["job_key"], event["fencing"], event["token"], records=records)
