"""States RecordDeployed, RecordRejected and RecordFailure, and a stopped execution's event: how it ended."""

from __future__ import annotations

import os
from typing import Any

import msgspec
from aws_lambda_powertools import Logger

from isthmus import bootstrap
from isthmus.config import RecordOutcomeSettings
from isthmus.workflows.record_outcome import from_status_change, record_outcome

logger = Logger()


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: object) -> Any:
    settings = RecordOutcomeSettings.from_env(os.environ)
    asked = from_status_change(event["detail"]) if "detail" in event else event
    outcome = record_outcome(
        asked["job_key"],
        asked["state"],
        asked.get("failure"),
        records=bootstrap.records(settings.table),
        events=bootstrap.events(settings.event_bus),
        now=bootstrap.now(),
        unless_ended=asked.get("unless_ended", False),
    )
    logger.info(
        "outcome", extra={"job_key": asked["job_key"], "state": outcome.state, "error": outcome.error}
    )
    return msgspec.to_builtins(outcome)
