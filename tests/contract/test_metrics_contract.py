"""Metrics arrive with their values, units and dimensions, and trouble on the way has its type."""

from __future__ import annotations

import datetime

import pytest
from botocore.stub import Stubber

from isthmus.adapters.aws.metrics import CloudWatchMetrics
from isthmus.adapters.aws.session import client
from isthmus.adapters.local.metrics import MemoryMetrics
from isthmus.errors import PermissionMissing, Unavailable

VALUES, DIMENSIONS = {"QueueAgeSeconds": 12.0, "JobsWaiting": 2.0, "GpuUsePercent": 75.0}, {"rig": "gpu-1"}


def test_in_memory_what_was_sent_is_kept() -> None:
    metrics = MemoryMetrics()
    metrics.send(VALUES, DIMENSIONS)
    assert metrics.sent == [(VALUES, DIMENSIONS)]


def test_cloudwatch_knows_value_and_unit_of_each(aws: None) -> None:
    CloudWatchMetrics("shop").send(VALUES, DIMENSIONS)
    now = datetime.datetime.now(datetime.UTC)
    found = {
        name: client("cloudwatch").get_metric_statistics(
            Namespace="shop",
            MetricName=name,
            Dimensions=[{"Name": "rig", "Value": "gpu-1"}],
            StartTime=now - datetime.timedelta(hours=1),
            EndTime=now + datetime.timedelta(hours=1),
            Period=7200,
            Statistics=["Sum"],
        )["Datapoints"][0]
        for name in VALUES
    }
    assert {name: (point["Sum"], point["Unit"]) for name, point in found.items()} == {
        "QueueAgeSeconds": (12.0, "Seconds"),
        "JobsWaiting": (2.0, "Count"),
        "GpuUsePercent": (75.0, "Percent"),
    }


@pytest.mark.parametrize(("code", "kind"), [("Throttling", Unavailable), ("AccessDenied", PermissionMissing)])
def test_what_passes_and_what_is_forbidden_differ(aws: None, code: str, kind: type[Exception]) -> None:
    with Stubber(client("cloudwatch")) as stub:
        stub.add_client_error("put_metric_data", code, "no")
        with pytest.raises(kind):
            CloudWatchMetrics("shop").send(VALUES, DIMENSIONS)
