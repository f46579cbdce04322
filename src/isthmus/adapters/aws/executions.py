"""What Step Functions tells of executions: their histories, and each as ``model.execution.Run``."""

from __future__ import annotations

import itertools
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
    with passing_trouble("Step Functions"):
        for found in paginator.paginate(executionArn=arn, reverseOrder=newest_first, **page):
            for event in found["events"]:
                yield {**event, "timestamp": event["timestamp"].timestamp()}


class History:
    """An execution's events, of which each look reads only those that are new.

    A history only grows, and its events are numbered in their order (Step Functions API reference,
    GetExecutionHistory, HistoryEvent).
    """

    def __init__(self, arn: str) -> None:
        self._arn = arn
        self._events: list[dict[str, Any]] = []

    def read(self) -> list[dict[str, Any]]:
        """Return all events, oldest first."""
        if not self._events:
            self._events = list(events(self._arn))
            return self._events
        last = self._events[-1]["id"]
        fresh = itertools.takewhile(lambda event: event["id"] > last, events(self._arn, newest_first=True))
        self._events += reversed(list(fresh))
        return self._events


class StepFunctionsHistories:
    """``Histories`` on Step Functions."""

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
