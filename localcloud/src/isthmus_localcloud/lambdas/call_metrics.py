"""What Lambda tells CloudWatch of each call, under the dimensions that AWS gives it.

LocalEmu counts by the function's name alone, and counts no success among the errors. AWS sends
``Invocations`` (1) and ``Errors`` (0 or 1), stamped with when the call began, for all functions, by
``FunctionName``, by ``Resource`` (a version or alias that was called), and for an alias by
``ExecutedVersion``, so that the versions of a weighted alias can be told apart. Source: Lambda developer
guide, "View metrics on the CloudWatch console" and "Types of metrics for Lambda functions"; the dimensions
of an alias as listed in aws/aws-cdk#14248. AWS sends each minute, here it is each second.
"""

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

from localemu.aws.connect import connect_to
from localemu.services.cloudwatch.cloudwatch_database_helper import CloudwatchDatabase
from localemu.services.lambda_.api_utils import qualifier_is_alias
from localemu.services.lambda_.invocation import version_manager

LOG = logging.getLogger(__name__)
NAMESPACE = "AWS/Lambda"
SEND_SECONDS = 1.0
MOST_DATA = 900
"""In a request; CloudWatch takes 1,000 (API reference, PutMetricData)."""
Dimensions = tuple[tuple[str, str], ...]


class Series(NamedTuple):
    """Calls that began within one second, under one set of dimensions."""

    account: str
    region: str
    dimensions: Dimensions
    second: int


def dimensions_of(function: str, qualifier: str, version: str) -> Iterator[Dimensions]:
    """Every set of dimensions that a call counts under; ``qualifier`` is empty if it named none."""
    name = ("FunctionName", function)
    yield ()
    yield (name,)
    if qualifier:
        resource = ("Resource", f"{function}:{qualifier}")
        yield (name, resource)
        if qualifier_is_alias(qualifier):
            yield (name, resource, ("ExecutedVersion", version))


class CallMetrics:
    """Counts calls, and sends what has come together by a thread of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counted: defaultdict[Series, list[bool]] = defaultdict(list)

    def count(
        self, account: str, region: str, all_dimensions: Iterator[Dimensions], at: float, failed: bool
    ) -> None:
        with self._lock:
            for dimensions in all_dimensions:
                self._counted[Series(account, region, dimensions, int(at))].append(failed)

    def take(self) -> dict[tuple[str, str], list[dict[str, Any]]]:
        """What has come together since the last time, by account and region, as CloudWatch takes it."""
        with self._lock:
            counted, self._counted = self._counted, defaultdict(list)
        found: defaultdict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
        for series, failed in counted.items():
            found[series.account, series.region] += [
                datum("Invocations", series, [True] * len(failed)),
                datum("Errors", series, failed),
            ]
        return dict(found)

    def send(self) -> None:
        for (account, region), data in self.take().items():
            client = connect_to(aws_access_key_id=account, region_name=region).cloudwatch
            for first in range(0, len(data), MOST_DATA):
                client.put_metric_data(Namespace=NAMESPACE, MetricData=data[first : first + MOST_DATA])

    def keep_sending(self) -> None:
        while True:
            time.sleep(SEND_SECONDS)
            try:
                self.send()
            except Exception:
                LOG.exception("metrics of calls could not be sent")


def datum(name: str, series: Series, values: list[bool]) -> dict[str, Any]:
    return {
        "MetricName": name,
        "Dimensions": [{"Name": key, "Value": value} for key, value in series.dimensions],
        "Timestamp": series.second,
        "Unit": "Count",
        "StatisticValues": {
            "SampleCount": len(values),
            "Sum": sum(values),
            "Minimum": min(values),
            "Maximum": max(values),
        },
    }


class Exactly(list[dict[str, str]]):
    """Dimensions that name one metric, and no part of another's."""


def name_metrics_exactly() -> None:
    """A metric is its name and all of its dimensions (CloudWatch user guide, "Dimensions"). LocalEmu takes a
    query's for a part of them, and a value for the beginning of one: version 1 would have version 12's."""
    find, text = (
        CloudwatchDatabase.get_metric_data_stat,
        CloudwatchDatabase._get_ordered_dimensions_with_separator,
    )

    def get_metric_data_stat(
        self: Any, account_id: str, region: str, query: Any, *rest: Any, **named: Any
    ) -> Any:
        stat = query["MetricStat"]
        metric = {**stat["Metric"], "Dimensions": Exactly(stat["Metric"].get("Dimensions") or [])}
        exact = {**query, "MetricStat": {**stat, "Metric": metric}}
        return find(self, account_id, region, exact, *rest, **named)

    def ordered(self: Any, dims: Any, for_search: bool = False) -> Any:
        return text(self, dims, for_search and not isinstance(dims, Exactly))

    CloudwatchDatabase.get_metric_data_stat = get_metric_data_stat
    CloudwatchDatabase._get_ordered_dimensions_with_separator = ordered


def apply() -> None:
    metrics, original = CallMetrics(), version_manager.LambdaVersionManager.invoke

    def invoke(self: Any, *, invocation: Any) -> Any:
        result = original(self, invocation=invocation)
        called, version = invocation.invoked_arn.split(":"), self.function_version.id
        qualifier = called[7] if len(called) > 7 else ""
        all_dimensions = dimensions_of(version.function_name, qualifier, version.qualifier)
        began = invocation.invoke_time.timestamp()
        metrics.count(version.account, version.region, all_dimensions, began, bool(result.is_error))
        return result

    version_manager.LambdaVersionManager.invoke = invoke
    version_manager.record_cw_metric_error = version_manager.record_cw_metric_invocation = lambda **_: None
    name_metrics_exactly()
    threading.Thread(target=metrics.keep_sending, name="lambda-metrics", daemon=True).start()
