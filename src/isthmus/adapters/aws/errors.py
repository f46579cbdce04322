"""Maps botocore's exceptions to our own, once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as BotoConnectionError

from isthmus.errors import PermissionMissing, Unavailable
from isthmus.model.permission import missing_permission

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

# A rig's credentials are short-lived: until they are renewed nothing is lost by waiting. The names differ by
# service (S3 and SQS: ExpiredToken; DynamoDB, Lambda, Step Functions: ExpiredTokenException). A clock that
# jumped looks the same to AWS, and passes as well.
EXPIRED_CODES = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "RequestExpired",
        "RequestTimeTooSkewed",
        "TokenRefreshRequired",
    }
)
SKEWED = ("Signature expired", "Signature not yet current")
"""How a message of InvalidSignatureException begins when the clock is to blame, and not the key."""

# IAM's refusals. A HEAD has no body: S3 answers it with the bare status.
DENIED_CODES = frozenset({"AccessDenied", "AccessDeniedException", "KMS.AccessDeniedException", "403"})


@contextlib.contextmanager
def passing_trouble(service: str) -> Iterator[None]:
    """Turn what may pass (no connection, a broken stream, throttling) into Unavailable.

    A right that is missing becomes PermissionMissing; what else will not pass (no such table) stays
    botocore's own error.
    """
    try:
        yield
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code_of(error) in PASSING_CODES or status >= 500:
            raise Unavailable(f"{service} did not answer: {error}") from error
        if is_expired(error):
            raise Unavailable(f"{service} refused expired credentials: {error}") from error
        raise_if_denied(error)
        raise
    except (BotoConnectionError, HTTPClientError) as error:
        raise Unavailable(f"{service} could not be reached: {error}") from error
    except BotoCoreError as error:
        if missing := missing_permission(str(error)):  # a waiter's call was refused
            raise PermissionMissing(missing) from error
        raise Unavailable(f"{service} could not be asked: {error}") from error


def is_expired(error: ClientError) -> bool:
    """Whether the caller's credentials have run out, or its clock is wrong."""
    if code_of(error) in EXPIRED_CODES or message_of(error).startswith(SKEWED):
        return True
    # A HEAD has no body: S3 answers one with an expired token by the bare status, and no other of ours so.
    return code_of(error) == "400" and error.operation_name == "HeadObject"


def raise_if_denied(error: ClientError) -> None:
    """Raise PermissionMissing for a refusal of IAM, and nothing for any other error."""
    if code_of(error) in DENIED_CODES:
        told = f"{error.operation_name} was refused ({message_of(error)}): allow it in the caller's policy"
        raise PermissionMissing(missing_permission(message_of(error)) or told) from error


def code_of(error: ClientError) -> str:
    """Return the service's error code, for example ``NoSuchKey``."""
    return str(error.response.get("Error", {}).get("Code", ""))


def message_of(error: ClientError) -> str:
    """Return the service's own sentence."""
    return str(error.response.get("Error", {}).get("Message", ""))
