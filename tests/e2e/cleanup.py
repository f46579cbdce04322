"""Removes a stack and everything that it made at run time, and says what it could not remove."""

from __future__ import annotations

from typing import Any

import boto3

from demo.system import RIG, System


def client(system: System, service: str) -> Any:
    """Return a boto3 client for the system's cloud."""
    return boto3.client(
        service,
        region_name=system.env.get("AWS_DEFAULT_REGION") or system.env.get("AWS_REGION"),
        endpoint_url=system.env.get("AWS_ENDPOINT_URL"),
        aws_access_key_id=system.env.get("AWS_ACCESS_KEY_ID"),
        aws_secret_access_key=system.env.get("AWS_SECRET_ACCESS_KEY"),
        aws_session_token=system.env.get("AWS_SESSION_TOKEN"),
    )


def remove(system: System) -> list[str]:
    """Delete the stack and what it made; return the names of what still exists."""
    outputs = {
        entry["OutputKey"]: entry["OutputValue"]
        for entry in client(system, "cloudformation").describe_stacks(StackName=system.stack)["Stacks"][0][
            "Outputs"
        ]
    }
    _model_functions(system)
    _packages(system, outputs["ModelGroup"])
    _components(system)
    sqs = client(system, "sqs")
    for url in sqs.list_queues(QueueNamePrefix=f"{system.stack}-rig-{RIG}").get("QueueUrls", []):
        sqs.delete_queue(QueueUrl=url)
    client(system, "cloudformation").delete_stack(StackName=system.stack)
    client(system, "cloudformation").get_waiter("stack_delete_complete").wait(
        StackName=system.stack, WaiterConfig={"Delay": 2, "MaxAttempts": 300}
    )
    _bucket(system, outputs["Bucket"])
    client(system, "dynamodb").delete_table(TableName=outputs["Table"])
    _layers(system)
    return _left(system)


def _model_functions(system: System) -> None:
    functions = client(system, "lambda")
    for name in _functions(system):
        if name.startswith(f"{system.stack}-model-"):
            functions.delete_function(FunctionName=name)


def _functions(system: System) -> list[str]:
    pages = client(system, "lambda").get_paginator("list_functions").paginate()
    names = [entry["FunctionName"] for page in pages for entry in page["Functions"]]
    return [name for name in names if name.startswith(f"{system.stack}-")]


def _layers(system: System) -> None:
    functions = client(system, "lambda")
    for page in functions.get_paginator("list_layers").paginate():
        for layer in page["Layers"]:
            if layer["LayerName"].startswith(f"{system.stack}-"):
                for version in functions.list_layer_versions(LayerName=layer["LayerName"])["LayerVersions"]:
                    functions.delete_layer_version(
                        LayerName=layer["LayerName"], VersionNumber=version["Version"]
                    )


def _packages(system: System, group: str) -> None:
    registry = client(system, "sagemaker")
    for page in registry.get_paginator("list_model_packages").paginate(ModelPackageGroupName=group):
        for package in page["ModelPackageSummaryList"]:
            registry.delete_model_package(ModelPackageName=package["ModelPackageArn"])


def _components(system: System) -> None:
    greengrass = client(system, "greengrassv2")
    for component in _component_names(system):
        for version in greengrass.list_component_versions(arn=component)["componentVersions"]:
            greengrass.delete_component(arn=version["arn"])


def _component_names(system: System) -> list[str]:
    pages = client(system, "greengrassv2").get_paginator("list_components").paginate(scope="PRIVATE")
    return [
        c["arn"]
        for page in pages
        for c in page["components"]
        if c["componentName"].startswith(f"{system.stack}.")
    ]


def _bucket(system: System, bucket: str) -> None:
    s3 = client(system, "s3")
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
        entries = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
        if entries:
            objects = [{"Key": entry["Key"], "VersionId": entry["VersionId"]} for entry in entries]
            s3.delete_objects(Bucket=bucket, Delete={"Objects": objects, "Quiet": True})
    s3.delete_bucket(Bucket=bucket)


def _left(system: System) -> list[str]:
    """Return what of the stack still exists; keys of KMS wait for their deletion, as AWS wants."""
    left = [f"function {name}" for name in _functions(system)]
    left += [f"component {arn}" for arn in _component_names(system)]
    buckets = client(system, "s3").list_buckets()["Buckets"]
    left += [f"bucket {entry['Name']}" for entry in buckets if entry["Name"].startswith(f"{system.stack}-")]
    tables = client(system, "dynamodb").list_tables()["TableNames"]
    left += [f"table {name}" for name in tables if name.startswith(f"{system.stack}-")]
    queues = client(system, "sqs").list_queues(QueueNamePrefix=f"{system.stack}-").get("QueueUrls", [])
    return left + [f"queue {url}" for url in queues]
