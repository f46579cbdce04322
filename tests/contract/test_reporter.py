"""What a rig makes of the answers of ``finish_attempt``; the fake that ships answers nothing."""

from __future__ import annotations

import io
import json

import pytest
from botocore.response import StreamingBody
from botocore.stub import Stubber

from isthmus.adapters.aws.bridge import LambdaReporter
from isthmus.adapters.aws.session import client
from isthmus.errors import EnvironmentProblem, PermissionMissing, Unavailable


def report(body: bytes, *, failed: bool) -> None:
    answer = {"StatusCode": 200, "Payload": StreamingBody(io.BytesIO(body), len(body))}
    expected = {"FunctionName": "finish", "Payload": b'{"job_key": "k", "fencing": 2}'}
    with Stubber(client("lambda")) as stub:
        stub.add_response("invoke", answer | ({"FunctionError": "Unhandled"} if failed else {}), expected)
        LambdaReporter("finish").finished("k", 2)
        stub.assert_no_pending_responses()


def failure(kind: str, message: str) -> bytes:
    return json.dumps({"errorType": kind, "errorMessage": message, "stackTrace": []}).encode()


@pytest.mark.parametrize("fault", [PermissionMissing, EnvironmentProblem])
def test_a_fault_of_the_deployment_is_named_and_not_repeated(aws: None, fault: type[Exception]) -> None:
    with pytest.raises(fault, match=r"^finish failed: the role may not states:SendTaskSuccess$"):
        report(failure(fault.__name__, "the role may not states:SendTaskSuccess"), failed=True)


@pytest.mark.parametrize(
    "body",
    [failure("Unavailable", 'no route; "Conflict"'), failure("Runtime.ExitError", ""), b"[]", b"null", b"{"],
)
def test_any_other_failure_may_pass(aws: None, body: bytes) -> None:
    with pytest.raises(Unavailable, match=r"^finish failed: "):
        report(body, failed=True)


def test_what_a_newer_attempt_reports_is_reported(aws: None) -> None:
    report(failure("Conflict", "attempt 2 has no committed outcome"), failed=True)
    report(b'{"delivered": true}', failed=False)
