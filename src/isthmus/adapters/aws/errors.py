"""Maps botocore's exceptions to our own, once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as BotoConnectionError

from isthmus.errors import Unavailable

CONFLICT_CODES = frozenset(
    {"ConditionalCheckFailedException", "TaskTimedOut", "TaskDoesNotExist", "InvalidToken"}
)

# What AWS says of itself when the same call may work later; botocore has retried by then.
# ResourceConflictException is Lambda's: an update of the function is still going on.
PASSING_CODES = frozenset(
    {
        "InternalError",
        "InternalFailure",
        "InternalServerError",
        "ProvisionedThroughputExceededException",
        "RequestAlreadyInProgressException",
        "RequestLimitExceeded",
        "RequestTimeout",
        "ResourceConflictException",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)


@contextlib.contextmanager
def passing_trouble(service: str) -> Iterator[None]:
    """Turn what may pass (no connection, a broken stream, throttling) into Unavailable.

    What will not pass (no permission, no such table) stays botocore's own error.
    """
    try:
        yield
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code_of(error) in PASSING_CODES or status >= 500:
            raise Unavailable(f"{service} did not answer: {error}") from error
        raise
    except (BotoConnectionError, HTTPClientError) as error:
        raise Unavailable(f"{service} could not be reached: {error}") from error
    except BotoCoreError as error:
        raise Unavailable(f"{service} could not be asked: {error}") from error


def code_of(error: ClientError) -> str:
    """Return the service's error code, for example ``NoSuchKey``."""
    return str(error.response.get("Error", {}).get("Code", ""))


def message_of(error: ClientError) -> str:
    """Return the service's own sentence."""
    return str(error.response.get("Error", {}).get("Message", ""))
