"""What code calls of AWS, read off its syntax, as IAM's actions."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import botocore.loaders
from botocore import xform_name

PREFIXES = {"stepfunctions": "states", "greengrassv2": "greengrass", "service-quotas": "servicequotas"}
"""Where IAM's prefix is not boto3's name of the service."""
RENAMED = {
    "s3:DeleteObjects": "s3:DeleteObjectVersion",  # each is named with its version
    "s3:GetBucketEncryption": "s3:GetEncryptionConfiguration",
    "s3:HeadBucket": "s3:ListBucket",
    "s3:HeadObject": "s3:GetObject",
    # S3 user guide, "Multipart upload API and permissions"
    "s3:CreateMultipartUpload": "s3:PutObject",
    "s3:UploadPart": "s3:PutObject",
    "s3:CompleteMultipartUpload": "s3:PutObject",
    "s3:ListObjectVersions": "s3:ListBucketVersions",
    "s3:ListObjectsV2": "s3:ListBucket",
    "lambda:GetLayerVersionByArn": "lambda:GetLayerVersion",
    "lambda:Invoke": "lambda:InvokeFunction",
}
"""Where an operation is not called as the action that allows it."""
NO_CALLS = ("exceptions", "meta")
"""What a client has besides operations."""
SIGNS = "generate_presigned_url"
"""Names the operation that somebody may then carry out in the signer's name."""
BY_NAME = ("call", "listed")
"""The operator's functions that take a service and an operation by name."""


def actions_in(paths: Iterable[Path]) -> Iterator[str]:
    """Yield the IAM action of every call of a boto3 client, or of ``call`` and ``listed``."""
    for path in sorted(paths):
        tree = ast.parse(path.read_text())
        nodes = list(ast.walk(tree))
        held = dict(pair for node in nodes if isinstance(node, ast.Assign) for pair in _held(node))
        for node in nodes:
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in BY_NAME:
                yield from _by_name(node)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                service = _service(node.func.value, held)
                if service and node.func.attr not in NO_CALLS:
                    yield _called(service, node.func.attr, node)
        if any(isinstance(node, ast.Name) and node.id == "getattr" for node in nodes):
            # StepFunctionsTasks passes its operations by name.
            texts = {str(node.value) for node in nodes if isinstance(node, ast.Constant)}
            yield from (_action("stepfunctions", text) for text in texts if text.startswith("send_task"))


def _held(node: ast.Assign) -> Iterator[tuple[str, str]]:
    """Yield the names that an assignment gives to clients, with their services."""
    for target in node.targets:
        pairs = zip(target.elts, node.value.elts, strict=False) if _both_tuples(target, node.value) else ()
        for name, value in [(target, node.value), *pairs]:
            if isinstance(name, ast.Name) and (service := _service(value, {})):
                yield name.id, service


def _both_tuples(target: ast.expr, value: ast.expr) -> bool:
    return isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple)


def _service(node: ast.AST, held: dict[str, str]) -> str | None:
    if isinstance(node, ast.Name):
        return held.get(node.id)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "client":
        return str(node.args[0].value) if isinstance(node.args[0], ast.Constant) else None
    return None


def _called(service: str, method: str, node: ast.Call) -> str:
    if method not in ("get_paginator", "get_waiter", SIGNS):
        return _action(service, method)
    assert isinstance(node.args[0], ast.Constant), "a paginator is named where it is asked for"
    if method == SIGNS:
        return _action(service, str(node.args[0].value))
    name = str(node.args[0].value)
    if method == "get_waiter":
        waiters = botocore.loaders.Loader().load_service_model(service, "waiters-2")["waiters"]
        name = next(xform_name(w["operation"]) for known, w in waiters.items() if xform_name(known) == name)
    return _action(service, name)


def _by_name(node: ast.Call) -> Iterator[str]:
    service, operation = node.args[:2]
    if isinstance(service, ast.Constant) and isinstance(operation, ast.Constant):
        yield _action(str(service.value), str(operation.value))
    elif isinstance(service, ast.Constant) and isinstance(operation, ast.JoinedStr):
        parts = [str(v.value) if isinstance(v, ast.Constant) else ".*" for v in operation.values]
        shape = re.compile("".join(parts))
        yield from (
            _action(str(service.value), n) for n in _operations(str(service.value)) if shape.fullmatch(n)
        )


@functools.cache
def _operations(service: str) -> dict[str, str]:
    """Return a service's operations by their names in Python."""
    model = botocore.loaders.Loader().load_service_model(service, "service-2")
    return {xform_name(name): name for name in model["operations"]}


def _action(service: str, method: str) -> str:
    action = f"{PREFIXES.get(service, service)}:{_operations(service)[method]}"
    return RENAMED.get(action, action)
