"""Called by a rig that committed an outcome: answer the training's task token."""

from __future__ import annotations

import os
from typing import Any

import msgspec

from isthmus import bootstrap
from isthmus.config import StateSettings
from isthmus.model.messages import AttemptState
from isthmus.observe import emit, observed
from isthmus.workflows.train_on_rig import finish_attempt


@observed
def handler(event: dict[str, Any], context: object) -> Any:
    settings = StateSettings.from_env(os.environ)
    finished = finish_attempt(
        event["job_key"],
        event["fencing"],
        records=bootstrap.records(settings.table),
        tasks=bootstrap.tasks(),
    )
    if finished.delivered and finished.state is AttemptState.SUCCEEDED:
        emit({"TrainingSeconds": finished.seconds}, facts={"job_key": event["job_key"]})
    elif finished.delivered and finished.state is AttemptState.LOST:
        emit({"AttemptLost": 1}, facts={"job_key": event["job_key"]})
    return msgspec.to_builtins(finished)
