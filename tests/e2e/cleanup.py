"""Removes a stack and everything that it made at run time, and says what it could not remove."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
from botocore.exceptions import ClientError

from demo.system import RIG, System


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
    """Yield the entries under ``key`` of every page."""
    for page in client(system, service).get_paginator(operation).paginate(**arguments):
        yield from page.get(key, [])


def remove(system: System) -> list[str]:
    """Delete the stack and what it made; return the names of what still exists."""
    formation = client(system, "cloudformation")
    try:
        described = formation.describe_stacks(StackName=system.stack)["Stacks"][0]
    except ClientError:
        return []  # there is no such stack: nothing was made
    outputs = {entry["OutputKey"]: entry["OutputValue"] for entry in described.get("Outputs", [])}
    _made_at_run_time(system, outputs)
    formation.delete_stack(StackName=system.stack)
    waiter = formation.get_waiter("stack_delete_complete")
    waiter.wait(StackName=system.stack, WaiterConfig={"Delay": 2, "MaxAttempts": 600})
    _retained(system, outputs)
    return left(system)


def left(system: System) -> list[str]:
    """Return what of the stack still exists; KMS keys wait for their deletion, as AWS wants it."""
    prefix = f"{system.stack}-"
    found = [f"function {name}" for name in _functions(system)]
    found += [f"layer {name}" for name in _layers(system)]
    found += [f"component {arn}" for arn in _components(system)]
    buckets = client(system, "s3").list_buckets()["Buckets"]
    found += [f"bucket {entry['Name']}" for entry in buckets if entry["Name"].startswith(prefix)]
    tables = listed(system, "dynamodb", "list_tables", "TableNames")
    found += [f"table {name}" for name in tables if name.startswith(prefix)]
    queues = client(system, "sqs").list_queues(QueueNamePrefix=prefix).get("QueueUrls", [])
    return found + [f"queue {url}" for url in queues]


def _made_at_run_time(system: System, outputs: dict[str, str]) -> None:
    greengrass, functions = client(system, "greengrassv2"), client(system, "lambda")
    for deployment in list(_deployments(system)):
        if greengrass.get_deployment(deploymentId=deployment)["deploymentStatus"] == "ACTIVE":
            greengrass.cancel_deployment(deploymentId=deployment)
        greengrass.delete_deployment(deploymentId=deployment)
    for name in _functions(system):
        if name.startswith(f"{system.stack}-model-"):
            functions.delete_function(FunctionName=name)
    for component in _components(system):
        for version in list(
            listed(system, "greengrassv2", "list_component_versions", "componentVersions", arn=component)
        ):
            greengrass.delete_component(arn=version["arn"])
    if "ModelGroup" in outputs:
        group = {"ModelPackageGroupName": outputs["ModelGroup"]}
        packages = listed(system, "sagemaker", "list_model_packages", "ModelPackageSummaryList", **group)
        for package in list(packages):
            client(system, "sagemaker").delete_model_package(ModelPackageName=package["ModelPackageArn"])
    sqs = client(system, "sqs")
    for url in sqs.list_queues(QueueNamePrefix=f"{system.stack}-rig-{RIG}").get("QueueUrls", []):
        sqs.delete_queue(QueueUrl=url)


def _retained(system: System, outputs: dict[str, str]) -> None:
    functions = client(system, "lambda")
    for layer in _layers(system):
        for version in list(
            listed(system, "lambda", "list_layer_versions", "LayerVersions", LayerName=layer)
        ):
            functions.delete_layer_version(LayerName=layer, VersionNumber=version["Version"])
    if "Bucket" in outputs:
        _bucket(system, outputs["Bucket"])
    if "Table" in outputs:
        client(system, "dynamodb").delete_table(TableName=outputs["Table"])
        client(system, "dynamodb").get_waiter("table_not_exists").wait(TableName=outputs["Table"])


def _bucket(system: System, bucket: str) -> None:
    s3 = client(system, "s3")
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
        entries = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
        if entries:
            objects = [{"Key": entry["Key"], "VersionId": entry["VersionId"]} for entry in entries]
            s3.delete_objects(Bucket=bucket, Delete={"Objects": objects, "Quiet": True})
    s3.delete_bucket(Bucket=bucket)


def _functions(system: System) -> list[str]:
    names = (entry["FunctionName"] for entry in listed(system, "lambda", "list_functions", "Functions"))
    return [name for name in names if name.startswith(f"{system.stack}-")]


def _layers(system: System) -> list[str]:
    names = (entry["LayerName"] for entry in listed(system, "lambda", "list_layers", "Layers"))
    return [name for name in names if name.startswith(f"{system.stack}-")]


def _components(system: System) -> list[str]:
    found = listed(system, "greengrassv2", "list_components", "components", scope="PRIVATE")
    return [entry["arn"] for entry in found if entry["componentName"].startswith(f"{system.stack}.")]


def _deployments(system: System) -> Iterator[str]:
    prefix = {"namePrefixFilter": f"{system.stack}-"}
    for group in listed(system, "iot", "list_thing_groups", "thingGroups", **prefix):
        target = {"targetArn": group["groupArn"]}
        for entry in listed(system, "greengrassv2", "list_deployments", "deployments", **target):
            yield entry["deploymentId"]
