"""``CallFigures`` on CloudWatch: the metrics that Lambda sends of calls by an alias."""

from __future__ import annotations

import datetime
from collections import defaultdict
from typing import Any

from isthmus.adapters.aws.errors import passing_trouble
from isthmus.adapters.aws.functions import LIVE
from isthmus.adapters.aws.session import client
from isthmus.errors import Unavailable
from isthmus.model.calls import MINUTE_SECONDS, Calls, Minute

METRICS = {"requests": "Invocations", "errors": "Errors"}
"""Lambda developer guide, "Types of metrics for Lambda functions": both are to be summed up over a minute; the rate is
``Errors`` over ``Invocations``. A call that is throttled is neither."""


class LambdaCallFigures:
    """Of the functions of one region, by the alias that is in service.

    ``ExecutedVersion`` beside ``Resource`` (``function:alias``) tells the versions of a weighted alias apart (same
    guide, "View metrics on the CloudWatch console"); an alias with one version has it too (aws/aws-cdk#14248).
    """

    @passing_trouble("CloudWatch")
    def minutes(self, function: str, version: str, since: int, until: int) -> tuple[Minute, ...]:
        queries = [_query(name, metric, function, version) for name, metric in METRICS.items()]
        pages = (
            client("cloudwatch")
            .get_paginator("get_metric_data")
            .paginate(MetricDataQueries=queries, StartTime=_time(since), EndTime=_time(until))
        )
        found: dict[int, dict[str, int]] = defaultdict(lambda: dict.fromkeys(METRICS, 0))
        for page in pages:
            for result in page["MetricDataResults"]:
                _add(result, found)
        return tuple(Minute(begin, Calls(**found[begin])) for begin in sorted(found))


def _add(result: dict[str, Any], found: dict[int, dict[str, int]]) -> None:
    # PartialData: the rest comes with the next page.
    if result["StatusCode"] not in ("Complete", "PartialData"):
        raise Unavailable(
            f"CloudWatch did not answer: the figures of {result['Id']} are {result['StatusCode']}"
        )
    for when, value in zip(result["Timestamps"], result["Values"], strict=True):
        found[int(when.timestamp())][result["Id"]] += round(value)


def _query(name: str, metric: str, function: str, version: str) -> dict[str, Any]:
    about = {"FunctionName": function, "Resource": f"{function}:{LIVE}", "ExecutedVersion": version}
    dimensions = [{"Name": key, "Value": value} for key, value in about.items()]
    named = {"Namespace": "AWS/Lambda", "MetricName": metric, "Dimensions": dimensions}
    return {"Id": name, "MetricStat": {"Metric": named, "Period": MINUTE_SECONDS, "Stat": "Sum"}}


def _time(seconds: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)
