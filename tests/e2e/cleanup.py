"""Removes a stack as its owner would, and looks for what is left by listing everything there is."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import boto3

from demo.system import System

# Service, paginated operation, key of the entries, and the members that could name the stack.
LISTED = (
    ("function", "lambda", "list_functions", "Functions", ("FunctionName",)),
    ("layer", "lambda", "list_layers", "Layers", ("LayerName",)),
    ("component", "greengrassv2", "list_components", "components", ("componentName",)),
    ("deployment", "greengrassv2", "list_deployments", "deployments", ("targetArn", "parentTargetArn")),
    ("bucket", "s3", "list_buckets", "Buckets", ("Name",)),
    ("table", "dynamodb", "list_tables", "TableNames", ()),
    ("queue", "sqs", "list_queues", "QueueUrls", ()),
    ("state machine", "stepfunctions", "list_state_machines", "stateMachines", ("name",)),
    ("API", "apigateway", "get_rest_apis", "items", ("name",)),
    ("role", "iam", "list_roles", "Roles", ("RoleName",)),
    ("log group", "logs", "describe_log_groups", "logGroups", ("logGroupName",)),
    ("alarm", "cloudwatch", "describe_alarms", "MetricAlarms", ("AlarmName",)),
    ("alarm", "cloudwatch", "describe_alarms", "CompositeAlarms", ("AlarmName",)),
    ("dashboard", "cloudwatch", "list_dashboards", "DashboardEntries", ("DashboardName",)),
    ("topic", "sns", "list_topics", "Topics", ("TopicArn",)),
    ("thing group", "iot", "list_thing_groups", "thingGroups", ("groupName",)),
    ("certificates' policy", "iot", "list_policies", "policies", ("policyName",)),
    ("role alias", "iot", "list_role_aliases", "roleAliases", ()),
    (
        "model group",
        "sagemaker",
        "list_model_package_groups",
        "ModelPackageGroupSummaryList",
        ("ModelPackageGroupName",),
    ),
)
SETTLING_SECONDS = 90
ALL_REVISIONS = {"list_deployments": {"historyFilter": "ALL"}, "list_components": {"scope": "PRIVATE"}}


def client(system: System, service: str) -> Any:
    """Return a boto3 client for the system's cloud."""
    if not system.cloud_of_its_own:
        return boto3.client(service)
    return boto3.client(
        service,
        region_name=system.env["AWS_DEFAULT_REGION"],
        endpoint_url=system.env["AWS_ENDPOINT_URL"],
        aws_access_key_id=system.env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=system.env["AWS_SECRET_ACCESS_KEY"],
    )


def listed(system: System, service: str, operation: str, key: str, **arguments: Any) -> Iterator[Any]:
    """Yield the entries under ``key`` of every page, of an operation that has pages or not."""
    connection = client(system, service)
    if not connection.can_paginate(operation):
        yield from getattr(connection, operation)(**arguments).get(key, [])
        return
    for page in connection.get_paginator(operation).paginate(**arguments):
        yield from page.get(key, [])


def remove(system: System) -> list[str]:
    """Destroy the stack and all that it made; return what still exists of it.

    On AWS a listing shows what was deleted for a while: SQS says up to a minute.
    """
    system.isthmus("destroy", "--stack", system.stack, "--yes", "--force", "--json")
    deadline = time.monotonic() + (0 if system.cloud_of_its_own else SETTLING_SECONDS)
    while (found := left(system, system.stack)) and time.monotonic() < deadline:
        time.sleep(2)
    return found


def left(system: System, stack: str) -> list[str]:
    """Return everything in the cloud that bears the stack's name; keys that wait for their deletion do not count.

    It shares nothing with ``isthmus destroy``: it lists all there is, and reads the names.
    """
    mine = re.compile(rf"(^|[/:._-]){re.escape(stack)}($|[/:._-])")
    found = []
    for kind, service, operation, key, members in LISTED:
        for entry in listed(system, service, operation, key, **ALL_REVISIONS.get(operation, {})):
            names = [entry] if isinstance(entry, str) else [entry.get(member) or "" for member in members]
            found += [f"{kind} {name}" for name in names if mine.search(name)]
    found += [text for text in _stacks(system) if mine.search(text)]
    found += [text for text in _on_buses(system) if mine.search(text)]
    found += [text for text in _policies(system) if mine.search(text)]
    found += [text for text in _keys(system) if mine.search(text)]
    return found + _tagged(system, stack)


def _stacks(system: System) -> Iterator[str]:
    for stack in listed(system, "cloudformation", "list_stacks", "StackSummaries"):
        if stack["StackStatus"] != "DELETE_COMPLETE":
            yield f"stack/{stack['StackName']}"


def _on_buses(system: System) -> Iterator[str]:
    for bus in listed(system, "events", "list_event_buses", "EventBuses"):
        yield f"event bus/{bus['Name']}"
        for rule in listed(system, "events", "list_rules", "Rules", EventBusName=bus["Name"]):
            yield f"rule/{rule['Name']}"


def _policies(system: System) -> Iterator[str]:
    for policy in listed(system, "iam", "list_policies", "Policies", Scope="Local"):
        yield f"policy/{policy['PolicyName']}"


def _keys(system: System) -> Iterator[str]:
    for entry in listed(system, "kms", "list_keys", "Keys"):
        key = client(system, "kms").describe_key(KeyId=entry["KeyId"])["KeyMetadata"]
        if key["KeyState"] != "PendingDeletion":
            yield f"key/{key.get('Description', '')}"


def _tagged(system: System, stack: str) -> list[str]:
    """Return functions, queues and tables that carry the stack's tag, whatever their names are."""
    tags: list[tuple[str, Any]] = []
    for function in listed(system, "lambda", "list_functions", "Functions"):
        answer = client(system, "lambda").list_tags(Resource=function["FunctionArn"])
        tags.append((function["FunctionName"], answer.get("Tags")))
    for url in listed(system, "sqs", "list_queues", "QueueUrls"):
        tags.append((url, client(system, "sqs").list_queue_tags(QueueUrl=url).get("Tags")))
    return [f"tagged {name}" for name, found in tags if stack in (found or {}).values()]
