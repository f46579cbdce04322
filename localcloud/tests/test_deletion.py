"""Deleting a stack that is being deleted."""

import json
from typing import Any

from conftest import ROLE, Cloud, wait_for

SLOW = """
import json, time, urllib.request

def handler(event, context):
    if event["RequestType"] == "Delete":
        time.sleep(3)
    answer = {name: event[name] for name in ("StackId", "RequestId", "LogicalResourceId")}
    answer |= {"Status": "SUCCESS", "PhysicalResourceId": "slow"}
    url = event["ResponseURL"]
    urllib.request.urlopen(urllib.request.Request(url, json.dumps(answer).encode(), method="PUT"))
"""
FUNCTION = {
    "Runtime": "python3.13",
    "Handler": "index.handler",
    "Role": ROLE,
    "Timeout": 30,
    "Code": {"ZipFile": SLOW},
}


def custom(function: str) -> dict[str, Any]:
    return {"Type": "Custom::Slow", "Properties": {"ServiceToken": {"Fn::GetAtt": [function, "Arn"]}}}


TEMPLATE = {
    "Resources": {
        "First": custom("FirstFunction"),
        "FirstFunction": {"Type": "AWS::Lambda::Function", "Properties": FUNCTION, "DependsOn": "Last"},
        "Last": custom("LastFunction"),
        "LastFunction": {"Type": "AWS::Lambda::Function", "Properties": FUNCTION},
    }
}
"""Deleted in this order, from above."""


def test_a_second_request_lets_the_first_go_on(cloud: Cloud) -> None:
    """The custom resource's function must still be there when it is asked."""
    formation = cloud.client("cloudformation")
    identity = formation.create_stack(StackName="twice", TemplateBody=json.dumps(TEMPLATE))["StackId"]

    def status() -> str | None:
        now = str(formation.describe_stacks(StackName=identity)["Stacks"][0]["StackStatus"])
        return None if now.endswith("_IN_PROGRESS") else now

    def function_is_gone() -> bool:
        found = formation.describe_stack_resources(StackName=identity)["StackResources"]
        states = {entry["LogicalResourceId"]: entry["ResourceStatus"] for entry in found}
        return states.get("FirstFunction", "DELETE_COMPLETE") == "DELETE_COMPLETE"

    assert wait_for(status) == "CREATE_COMPLETE"
    formation.delete_stack(StackName=identity)
    wait_for(function_is_gone)
    assert status() is None, "what is last takes longer than to see that"
    formation.delete_stack(StackName=identity)
    assert wait_for(status) == "DELETE_COMPLETE"
