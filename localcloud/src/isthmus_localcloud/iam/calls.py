"""A call, and what has to be allowed for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MISSING_OBJECT = "the object does not exist"
"""Why s3:ListBucket is checked for a read: S3 tells only those who may list that something is missing."""

Keys = Mapping[str, str | Sequence[str]]


@dataclass(frozen=True)
class Call:
    """A parsed request. ``service`` and ``operation`` are botocore's names."""

    service: str
    operation: str
    params: Mapping[str, Any]
    account: str
    region: str

    def arn(self, service: str, resource: str) -> str:
        """An ARN of the caller's account and region."""
        return f"arn:aws:{service}:{self.region}:{self.account}:{resource}"

    def text(self, name: str, default: str = "") -> str:
        return str(self.params.get(name) or default)


@dataclass(frozen=True)
class Check:
    """One permission that a call takes. ``keys``: context keys of this action.

    ``implied``: why AWS checks it in the caller's name, for what the request does not itself name.
    """

    action: str
    resource: str
    keys: Keys = field(default_factory=dict)
    implied: str = ""
