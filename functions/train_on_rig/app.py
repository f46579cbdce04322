"""State TrainOnRig: hand the training's task token to the rig that holds the lease."""

from __future__ import annotations

import os
from typing import Any

from isthmus import bootstrap
from isthmus.config import StateSettings
from isthmus.observe import observed
from isthmus.workflows.train_on_rig import train_on_rig


@observed
def handler(event: dict[str, Any], context: object) -> None:
    settings = StateSettings.from_env(os.environ)
    records, tasks = bootstrap.records(settings.table), bootstrap.tasks()
    now = bootstrap.clock().now()
    train_on_rig(event["job_key"], event["fencing"], event["token"], records=records, tasks=tasks, now=now)
