"""Whose account and which region this is, and what of a stack can be known without the stack."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from botocore.exceptions import ClientError

from isthmus.adapters.aws.errors import DENIED_CODES, code_of, message_of
from isthmus.adapters.aws.operator.ownership import is_ours, outputs_of
from isthmus.adapters.aws.session import client
from isthmus.model import layout

GONE_CODES = frozenset(
    {
        "404",
        "AWS.SimpleQueueService.NonExistentQueue",
        "ExecutionDoesNotExist",
        "NoSuchBucket",
        "NoSuchEntity",
        "NoSuchTagSet",
        "NotFound",
        "QueueDoesNotExist",
        "ResourceNotFound",
        "ResourceNotFoundException",
        "ServerSideEncryptionConfigurationNotFoundError",
        "StateMachineDoesNotExist",
    }
)
GONE_WORDS = ("does not exist", "Could not find")
"""CloudFormation and SageMaker have a ValidationError or ValidationException for it, and only words."""


def is_gone(error: ClientError) -> bool:
    """Whether AWS refused because the thing is not there."""
    code = code_of(error)
    spoken = code in ("ValidationError", "ValidationException")
    return code in GONE_CODES or (spoken and any(words in message_of(error) for words in GONE_WORDS))


def listed(service: str, operation: str, key: str, **arguments: Any) -> Iterator[Any]:
    """Yield the entries under ``key`` of every page; nothing when what holds them is gone."""
    try:
        for page in client(service).get_paginator(operation).paginate(**arguments):
            yield from page.get(key, [])
    except ClientError as error:
        if not is_gone(error):
            raise


def call(service: str, operation: str, **arguments: Any) -> dict[str, Any]:
    """Call AWS; return an empty answer when what the call is about is gone."""
    try:
        return dict(getattr(client(service), operation)(**arguments) or {})
    except ClientError as error:
        if is_gone(error):
            return {}
        raise


class Home:
    """A stack's place: partition, account and region, and the names that follow from them."""

    def __init__(self, stack: str) -> None:
        self.stack = stack

    @functools.cached_property
    def _caller(self) -> str:
        return str(client("sts").get_caller_identity()["Arn"])

    @property
    def account(self) -> str:
        return self._caller.split(":")[4]

    @property
    def region(self) -> str:
        return str(client("sts").meta.region_name)

    def arn(self, service: str, resource: str) -> str:
        """Return the ARN of a resource of this account and region."""
        return f"arn:{self._caller.split(':')[1]}:{service}:{self.region}:{self.account}:{resource}"

    @property
    def bucket(self) -> str:
        return layout.bucket_name(self.stack, self.account, self.region)

    def outputs(self) -> dict[str, str]:
        """Return the stack's outputs; none when there is no such stack, or it is another application's."""
        for stack in call("cloudformation", "describe_stacks", StackName=self.stack).get("Stacks", []):
            return outputs_of(stack) if is_ours(stack, self.bucket) else {}
        return {}

    def models(self) -> set[str]:
        """Return the models that this stack ever packaged: a folder of the bucket each.

        It is how models are known whose function has no tag, or is gone while its layers are not.
        """
        return self._folders(layout.BUNDLES)

    def bundles(self, model: str) -> set[str]:
        """Return the digests of a model's bundles: a folder of the bucket each."""
        return self._folders(f"{layout.BUNDLES}{model}/")

    def _folders(self, prefix: str) -> set[str]:
        entries = listed(
            "s3", "list_objects_v2", "CommonPrefixes", Bucket=self.bucket, Prefix=prefix, Delimiter="/"
        )
        return {entry["Prefix"].removeprefix(prefix).rstrip("/") for entry in entries}

    def owns_key(self, key: str) -> bool:
        """Whether a KMS key is the stack's, by its description: what it encrypts is the stack's too.

        A key that the caller may not look at is not: the template lets the account's policies decide.
        """
        try:
            found = call("kms", "describe_key", KeyId=key).get("KeyMetadata", {}) if key else {}
        except ClientError as error:
            if code_of(error) in DENIED_CODES:
                return False
            raise
        return found.get("Description", "") in layout.key_descriptions(self.stack).values()

    def owns(self, tags: dict[str, str], *, otherwise: bool) -> bool:
        """Whether a thing with these tags is this stack's; ``otherwise`` when no tag says whose it is."""
        owner = tags.get(layout.STACK_TAG)
        return otherwise if owner is None else owner == self.stack
