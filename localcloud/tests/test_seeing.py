"""A dashboard and a metric filter of a stack: made, changed, and gone with it."""

import json
from typing import Any

from conftest import Cloud, wait_for

STACK = "seeing"


def template(title: str, pattern: str) -> str:
    body = json.dumps({"widgets": [{"type": "text", "properties": {"markdown": title}}]})
    transformation = {"MetricNamespace": "shop", "MetricName": "Failed", "MetricValue": "1"}
    return json.dumps(
        {
            "Resources": {
                "Group": {"Type": "AWS::Logs::LogGroup", "Properties": {"LogGroupName": "/seeing"}},
                "Filter": {
                    "Type": "AWS::Logs::MetricFilter",
                    "Properties": {
                        "LogGroupName": {"Ref": "Group"},
                        "FilterPattern": pattern,
                        "MetricTransformations": [transformation],
                    },
                },
                "Board": {
                    "Type": "AWS::CloudWatch::Dashboard",
                    "Properties": {"DashboardName": "seeing", "DashboardBody": body},
                },
            }
        }
    )


def status(cloud: Cloud) -> str:
    answer = cloud.client("cloudformation").describe_stacks(StackName=STACK)
    return str(answer["Stacks"][0]["StackStatus"])


def filters(cloud: Cloud) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = cloud.client("logs").describe_metric_filters()["metricFilters"]
    return [entry for entry in found if entry["logGroupName"] == "/seeing"]


def boards(cloud: Cloud) -> list[str]:
    listed = cloud.client("cloudwatch").list_dashboards()["DashboardEntries"]
    return [entry["DashboardName"] for entry in listed]


def test_a_dashboard_and_a_metric_filter_live_with_their_stack(cloud: Cloud) -> None:
    stacks = cloud.client("cloudformation")
    stacks.create_stack(StackName=STACK, TemplateBody=template("first", "ERROR"))
    assert wait_for(lambda: (s := status(cloud)).endswith("COMPLETE") and s) == "CREATE_COMPLETE"
    assert "seeing" in boards(cloud)
    (made,) = filters(cloud)
    assert (made["filterPattern"], made["metricTransformations"][0]["metricName"]) == ("ERROR", "Failed")

    stacks.update_stack(StackName=STACK, TemplateBody=template("second", "FAULT"))
    assert wait_for(lambda: (s := status(cloud)) != "UPDATE_IN_PROGRESS" and s) == "UPDATE_COMPLETE"
    body = cloud.client("cloudwatch").get_dashboard(DashboardName="seeing")["DashboardBody"]
    assert "second" in body
    assert [entry["filterPattern"] for entry in filters(cloud)] == ["FAULT"]

    stacks.delete_stack(StackName=STACK)
    wait_for(lambda: "seeing" not in boards(cloud))
    wait_for(lambda: not filters(cloud))
