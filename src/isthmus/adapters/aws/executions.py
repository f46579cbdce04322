"""What Step Functions tells of executions: their histories, and each as ``model.execution.Run``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from isthmus.adapters.aws.errors import passing_trouble
from isthmus.adapters.aws.session import client
from isthmus.model.execution import Ending, Run
from isthmus.workflows import read_history


def events(arn: str, *, newest_first: bool = False) -> Iterator[dict[str, Any]]:
    """Yield an execution's events, with ``timestamp`` in seconds since the epoch."""
    paginator = client("stepfunctions").get_paginator("get_execution_history")
    # A state that is retried a thousand times has thousands of events; the end is within the last few.
    page = {"PaginationConfig": {"PageSize": 100}} if newest_first else {}
    for found in paginator.paginate(executionArn=arn, reverseOrder=newest_first, **page):
        for event in found["events"]:
            yield {**event, "timestamp": event["timestamp"].timestamp()}


class StepFunctionsHistories:
    """``Histories`` on Step Functions."""

    @passing_trouble("Step Functions")
    def ending(self, execution: str) -> Ending:
        return read_history.ending(events(execution, newest_first=True))


def run_of(described: dict[str, Any]) -> Run:
    """Return DescribeExecution's answer as a run, without its visits."""
    stopped, redriven = described.get("stopDate"), described.get("redriveDate")
    return Run(
        name=described["name"],
        arn=described["executionArn"],
        status=described["status"],
        started_at=described["startDate"].timestamp(),
        ended_at=stopped.timestamp() if stopped else None,
        redrives=described.get("redriveCount") or 0,
        redriven_at=redriven.timestamp() if redriven else None,
        not_redrivable=described.get("redriveStatusReason") or "",
        error=described.get("error") or "",
        cause=described.get("cause") or "",
    )
