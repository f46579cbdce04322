"""``Concurrency`` by Lambda's reserved concurrency, with the operator's own rights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import ClientError

from isthmus.adapters.aws.errors import code_of, message_of, passing_trouble
from isthmus.adapters.aws.session import client
from isthmus.errors import LimitExceeded, UnknownModel


class LambdaConcurrency:
    """What is reserved for one function is taken from all others: 100 always stay unreserved (Lambda
    developer guide, "Configuring reserved concurrency for a function")."""

    @passing_trouble("Lambda")
    def limit(self, function: str) -> int | None:
        with _named(function):
            found = client("lambda").get_function_concurrency(FunctionName=function)
        calls = found.get("ReservedConcurrentExecutions")
        return None if calls is None else int(calls)

    @passing_trouble("Lambda")
    def set_limit(self, function: str, calls: int | None) -> None:
        with _named(function):
            if calls is None:
                client("lambda").delete_function_concurrency(FunctionName=function)
            else:
                client("lambda").put_function_concurrency(
                    FunctionName=function, ReservedConcurrentExecutions=calls
                )


@contextmanager
def _named(function: str) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        if code_of(error) == "ResourceNotFoundException":
            raise UnknownModel(f"there is no function {function}") from error
        if code_of(error) == "InvalidParameterValueException":
            raise LimitExceeded(f"{function} cannot have that limit: {message_of(error)}") from error
        raise
