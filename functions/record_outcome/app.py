"""States RecordDeployed and RecordRejected, and an execution's change of status: how a job ended.

Executions that began under an earlier version still come from their state RecordFailure.
"""

from __future__ import annotations

import os
from typing import Any

import msgspec

from isthmus import bootstrap
from isthmus.bootstrap_costs import used_by
from isthmus.config import RecordOutcomeSettings
from isthmus.observe import emit, logger, observed
from isthmus.workflows.keep_ledger import settle
from isthmus.workflows.record_outcome import ENDED, from_state, from_status_change, record_outcome


@observed
def handler(event: dict[str, Any], context: object) -> Any:
    settings = RecordOutcomeSettings.from_env(os.environ)
    records = bootstrap.records(settings.table)
    if "detail" in event:
        detail = event["detail"]
        execution = detail["executionArn"]
        change = from_status_change(detail, bootstrap.histories().ending(execution))
    else:
        execution = event.get("execution_arn", "")
        change = from_state(event)
    outcome = record_outcome(
        change, records=records, events=bootstrap.events(settings.event_bus), now=bootstrap.now()
    )
    if outcome.state in ENDED:
        used = used_by(execution, running="detail" not in event)
        settle(change.job_key, used, execution=execution, now=bootstrap.clock().now(), records=records)
    about = {"job_key": change.job_key, "state": outcome.state, "error": outcome.error}
    logger.info("outcome", extra=about)
    if outcome.recorded:
        emit({"PipelineEnded": 1}, facts={"job_key": change.job_key}, state=outcome.state)
    return msgspec.to_builtins(outcome)
