"""``Metrics`` on CloudWatch, for who has no log that CloudWatch reads them out of."""

from __future__ import annotations

from collections.abc import Mapping

from isthmus.adapters.aws.errors import passing_trouble
from isthmus.adapters.aws.session import client

UNITS = {"Seconds": "Seconds", "Percent": "Percent"}
"""How a metric's name ends, and the unit that says; any other is a count."""


class CloudWatchMetrics:
    """Metrics of one namespace."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace

    @passing_trouble("CloudWatch")
    def send(self, values: Mapping[str, float], dimensions: Mapping[str, str]) -> None:
        about = [{"Name": name, "Value": value} for name, value in dimensions.items()]
        data = [
            {"MetricName": name, "Value": value, "Unit": _unit(name), "Dimensions": about}
            for name, value in values.items()
        ]
        client("cloudwatch").put_metric_data(Namespace=self._namespace, MetricData=data)


def _unit(name: str) -> str:
    return next((unit for end, unit in UNITS.items() if name.endswith(end)), "Count")
