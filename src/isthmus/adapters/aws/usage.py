"""What an execution used, counted from its history."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

from isthmus.adapters.aws.errors import passing_trouble
from isthmus.adapters.aws.session import client
from isthmus.planning.cost import Usage

ENDED = ("TaskSucceeded", "TaskFailed", "TaskTimedOut")


@passing_trouble("Step Functions")
def usage_of(execution_arn: str, rig_seconds: float, rig_price_per_hour_usd: float) -> Usage:
    """Count state transitions and the functions' GB-seconds, nested executions included."""
    transitions, requests, gb_seconds = _count(execution_arn, functools.cache(_memory_gb))
    return Usage(transitions, requests, gb_seconds, rig_seconds, rig_price_per_hour_usd)


def _count(arn: str, memory_gb: Callable[[str], float]) -> tuple[int, int, float]:
    pages = client("stepfunctions").get_paginator("get_execution_history").paginate(executionArn=arn)
    events = [event for page in pages for event in page["events"]]
    transitions = sum(event["type"].endswith("StateEntered") for event in events)
    scheduled = {event["id"]: event for event in events if event["type"] == "TaskScheduled"}
    before = {event["id"]: event["previousEventId"] for event in events}
    requests, gb_seconds = 0, 0.0
    for event in (event for event in events if event["type"] in ENDED):
        start = _scheduled_before(event["id"], before, scheduled)
        if start is None:
            continue
        details = start["taskScheduledEventDetails"]
        parameters = json.loads(details["parameters"])
        if details["resource"] == "invoke":
            requests += 1
            seconds = (event["timestamp"] - start["timestamp"]).total_seconds()
            gb_seconds += seconds * memory_gb(parameters["FunctionName"])
        elif details["resource"].startswith("startExecution") and event["type"] == "TaskSucceeded":
            nested = json.loads(event["taskSucceededEventDetails"]["output"])["ExecutionArn"]
            more = _count(nested, memory_gb)
            transitions, requests, gb_seconds = (
                transitions + more[0],
                requests + more[1],
                gb_seconds + more[2],
            )
    return transitions, requests, gb_seconds


def _scheduled_before(event_id: int, before: dict[int, int], scheduled: dict[int, Any]) -> Any:
    while event_id and event_id not in scheduled:
        event_id = before.get(event_id, 0)
    return scheduled.get(event_id)


def _memory_gb(function: str) -> float:
    configuration = client("lambda").get_function_configuration(FunctionName=function)
    return float(configuration["MemorySize"]) / 1024
