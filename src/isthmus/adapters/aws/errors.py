"""Maps botocore's exceptions to our own, once."""

from __future__ import annotations

from botocore.exceptions import ClientError

CONFLICT_CODES = frozenset({"ConditionalCheckFailedException", "TaskTimedOut", "TaskDoesNotExist", "InvalidToken"})


def code_of(error: ClientError) -> str:
    """Return the service's error code, for example ``NoSuchKey``."""
    return str(error.response.get("Error", {}).get("Code", ""))


def message_of(error: ClientError) -> str:
    """Return the service's own sentence."""
    return str(error.response.get("Error", {}).get("Message", ""))
