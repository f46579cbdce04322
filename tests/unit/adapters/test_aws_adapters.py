"""What moto cannot show: AWS's refusals, and the requests that leave, held to boto3's own models."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError, WaiterError
from botocore.stub import ANY, Stubber

from isthmus.adapters.aws.blobs import S3BlobStore
from isthmus.adapters.aws.bridge import MAX_CAUSE_CHARACTERS, StepFunctionsTasks
from isthmus.adapters.aws.errors import passing_trouble
from isthmus.adapters.aws.fleet import GreengrassFleet
from isthmus.adapters.aws.functions import LambdaFunctions
from isthmus.adapters.aws.records import DynamoRecords
from isthmus.adapters.aws.session import IMPATIENT, client
from isthmus.adapters.aws.usage import usage_of
from isthmus.bootstrap_costs import used_by
from isthmus.errors import (
    Conflict,
    DigestMismatch,
    MissingFile,
    PermissionMissing,
    Throttled,
    Unavailable,
    UnknownModel,
)
from isthmus.ports import EdgeComponent, EdgeStatus

TARGET = "arn:aws:iot:eu-west-1:123456789012:thinggroup/shop-cores"


@contextmanager
def answers(service: str) -> Iterator[Stubber]:
    """Let the process's one client answer from a script; each scripted answer must be used."""
    with Stubber(client(service)) as stub:
        yield stub
        stub.assert_no_pending_responses()


def refusal(code: str, status: int = 400, *, message: str = "m", operation: str = "Call") -> ClientError:
    told = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(told, operation)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (refusal("ThrottlingException"), True),
        (refusal("TooManyRequestsException", 429), True),
        (refusal("ResourceConflictException", 409), True),
        (refusal("AnythingNew", 503), True),
        (refusal("ExpiredToken"), True),
        (refusal("ExpiredTokenException"), True),
        (refusal("RequestTimeTooSkewed", 403), True),
        (refusal("InvalidSignatureException", message="Signature expired: 1 is now earlier than 2"), True),
        (refusal("InvalidSignatureException", message="The signature does not match"), False),
        (refusal("400", operation="HeadObject"), True),
        (refusal("400"), False),
        (EndpointConnectionError(endpoint_url="https://x"), True),
        (NoCredentialsError(), True),
        (refusal("ValidationException"), False),
    ],
    ids=lambda value: getattr(value, "response", {}).get("Error", {}).get("Code", str(value)),
)
def test_what_may_pass_is_unavailable_and_the_rest_stays_as_it_is(error: Exception, passes: bool) -> None:
    expected = Unavailable if passes else ClientError
    with pytest.raises(expected), passing_trouble("DynamoDB"):
        raise error


@pytest.mark.parametrize(
    ("code", "message", "said"),
    [
        (
            "AccessDeniedException",
            "User: arn:aws:sts::1:assumed-role/stack-PlanRole-X/plan is not authorized to perform: "
            "dynamodb:Query on resource: arn:aws:dynamodb:e:1:table/t because no identity-based policy "
            "allows the dynamodb:Query action",
            "the role stack-PlanRole-X may not dynamodb:Query on arn:aws:dynamodb:e:1:table/t: add "
            "dynamodb:Query to its policy in template.yaml and run `sam deploy`",
        ),
        (
            "AccessDenied",
            "User: arn:aws:iam::1:user/rigs/lab-1 is not authorized to perform: sqs:receivemessage on "
            'resource: "arn:aws:sqs:e:1:q" with an explicit deny in a resource-based policy',
            "the user lab-1 may not sqs:receivemessage on arn:aws:sqs:e:1:q: a policy denies it; take "
            "that statement back",
        ),
        ("403", "Forbidden", "Call was refused (Forbidden): allow it in the caller's policy"),
    ],
)
def test_a_refusal_of_iam_says_who_lacks_which_right_and_what_to_do(
    code: str, message: str, said: str
) -> None:
    error = ClientError({"Error": {"Code": code, "Message": message}}, "Call")
    with pytest.raises(PermissionMissing) as caught, passing_trouble("DynamoDB"):
        raise error
    assert str(caught.value) == said


def test_a_waiter_that_is_refused_is_no_passing_trouble() -> None:
    reason = (
        "An error occurred (AccessDeniedException): User: arn:aws:sts::1:assumed-role/r/s is not authorized "
        "to perform: lambda:GetFunction on resource: arn:f because no identity-based policy allows it"
    )
    said = "the role r may not lambda:GetFunction on arn:f"
    with pytest.raises(PermissionMissing, match=said), passing_trouble("Lambda"):
        raise WaiterError("FunctionActiveV2", reason, {})


def test_an_object_that_only_a_listing_would_show_to_be_missing_is_missing() -> None:
    refused = (
        "User: arn:aws:sts::1:assumed-role/r/s is not authorized to perform: s3:ListBucket on resource: b"
    )
    with answers("s3") as stub:
        stub.add_client_error("get_object", "AccessDenied", refused, http_status_code=403)
        with pytest.raises(MissingFile, match="jobs/1 is not in the bucket"):
            S3BlobStore("b").get("jobs/1", max_bytes=9)


def test_s3_refuses_a_file_that_changed_since_it_was_hashed(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"changed")
    with answers("s3") as stub:
        stub.add_client_error("put_object", "BadDigest", http_status_code=400)
        with pytest.raises(DigestMismatch, match="changed while it was uploaded"):
            S3BlobStore("data").upload("k", tmp_path / "f", sha256="0" * 64)


def test_a_checksum_of_checksums_is_no_digest() -> None:
    parts = {"ContentLength": 9, "ChecksumSHA256": "AAAA-2", "ChecksumType": "COMPOSITE"}
    with answers("s3") as stub:
        stub.add_response("head_object", parts)
        info = S3BlobStore("data").info("k")
    assert info is not None
    assert (info.size_bytes, info.sha256) == (9, None)


def test_expecting_none_asks_dynamodb_for_absent_or_null() -> None:
    """moto takes an absent attribute for equal to NULL; DynamoDB does not."""
    with answers("dynamodb") as stub:
        stub.add_response(
            "update_item",
            {},
            {
                "TableName": "table",
                "Key": {"pk": {"S": "A"}, "sk": {"S": "1"}},
                "UpdateExpression": "SET #s0 = :s0",
                "ConditionExpression": "(attribute_not_exists(#e0) OR #e0 = :e0)",
                "ExpressionAttributeNames": {"#s0": "state", "#e0": "outcome"},
                "ExpressionAttributeValues": {":s0": {"S": "X"}, ":e0": {"NULL": True}},
            },
        )
        DynamoRecords("table").update("A", "1", {"state": "X"}, expect={"outcome": None})


TASK_CALLS: dict[str, Callable[[StepFunctionsTasks], None]] = {
    "send_task_success": lambda tasks: tasks.succeed("t", {"a": 1}),
    "send_task_failure": lambda tasks: tasks.fail("t", "Error", "cause"),
    "send_task_heartbeat": lambda tasks: tasks.heartbeat("t"),
}


@pytest.mark.parametrize("operation", TASK_CALLS)
@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("TaskTimedOut", Conflict),
        ("TaskDoesNotExist", Conflict),
        ("InvalidToken", Conflict),
        ("ThrottlingException", Unavailable),
    ],
)
def test_an_answer_that_nobody_waits_for_is_a_conflict(
    operation: str, code: str, error: type[Exception]
) -> None:
    with answers("stepfunctions") as stub:
        stub.add_client_error(operation, code)
        with pytest.raises(error):
            TASK_CALLS[operation](StepFunctionsTasks())


def test_a_cause_is_cut_to_what_step_functions_takes_and_keeps_its_end() -> None:
    cause = "x" * 40_000 + "the last line"
    expected = {"taskToken": "t", "error": "TrainingFailed", "cause": cause[-MAX_CAUSE_CHARACTERS:]}
    with answers("stepfunctions") as stub:
        stub.add_response("send_task_failure", {}, expected)
        StepFunctionsTasks().fail("t", "TrainingFailed", cause)


def test_an_unknown_function_is_an_unknown_model_and_a_throttled_one_is_named() -> None:
    for code, error in (
        ("ResourceNotFoundException", UnknownModel),
        ("TooManyRequestsException", Throttled),
    ):
        with Stubber(client("lambda", IMPATIENT)) as stub:
            stub.add_client_error("invoke", code)
            with pytest.raises(error):
                LambdaFunctions("data").invoke("shop-model-digits", "live", {})


def test_a_deployment_merges_into_what_the_target_has() -> None:
    foreign = {"aws.greengrass.LogManager": {"componentVersion": "2.3.0", "runWith": {"posixUser": "u"}}}
    with answers("greengrassv2") as stub:
        stub.add_response(
            "list_deployments",
            {"deployments": [{"deploymentId": "old", "targetArn": TARGET}]},
            {"targetArn": TARGET, "historyFilter": "LATEST_ONLY"},
        )
        stub.add_response("get_deployment", {"components": foreign}, {"deploymentId": "old"})
        stub.add_response(
            "create_deployment",
            {"deploymentId": "new"},
            {
                "targetArn": TARGET,
                "deploymentName": "isthmus",
                "components": {**foreign, "shop.digits.model": {"componentVersion": "1.0.0"}},
                "deploymentPolicies": ANY,
                "clientToken": ANY,
            },
        )
        components = (EdgeComponent("shop.digits.model", "1.0.0"),)
        assert GreengrassFleet().deploy(TARGET, components, "token") == "new"


def client_token(target: str, token: str, there: str) -> str:
    """Return the client token with which a release goes to a target that has a version of another model."""
    sent: list[str] = []
    with answers("greengrassv2") as stub:
        stub.add_response("list_deployments", {"deployments": [{"deploymentId": "old", "targetArn": target}]})
        has = {"shop.pears.model": {"componentVersion": there}}
        stub.add_response("get_deployment", {"components": has}, {"deploymentId": "old"})
        stub.add_response("create_deployment", {"deploymentId": "new"})
        stub.client.meta.events.register(
            "provide-client-params.greengrassv2.CreateDeployment",
            lambda params, **_: sent.append(params["clientToken"]),
        )
        GreengrassFleet().deploy(target, (EdgeComponent("shop.digits.model", "1.0.0"),), token)
    return sent[0]


def test_a_client_token_is_one_requests_of_one_target() -> None:
    """It is valid for the whole account: two stacks may ship the same job's release."""
    first = client_token(TARGET, "job-1-1", "1.0.0")
    assert len(first) <= 64
    assert client_token(TARGET, "job-1-1", "1.0.0") == first, "a repeated call makes no second deployment"
    others = [(f"{TARGET}-b", "job-1-1", "1.0.0"), (TARGET, "job-1-2", "1.0.0"), (TARGET, "job-1-1", "2.0.0")]
    assert len({first, *(client_token(*other) for other in others)}) == 4


def test_a_component_version_that_exists_is_done() -> None:
    with answers("greengrassv2") as stub:
        stub.add_client_error("create_component_version", "ConflictException", http_status_code=409)
        GreengrassFleet().publish_recipe({"ComponentName": "a"})


def test_a_device_that_has_not_heard_of_the_deployment_is_queued() -> None:
    said = {
        "deploymentId": "d",
        "deploymentName": "isthmus",
        "targetArn": TARGET,
        "coreDeviceExecutionStatus": "FAILED",
        "reason": "BROKEN",
        "creationTimestamp": datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
        "modifiedTimestamp": datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    }
    devices = [{"coreDeviceThingName": name, "status": "HEALTHY"} for name in ("core-1", "core-2")]
    with answers("greengrassv2") as stub:
        stub.add_response("list_core_devices", {"coreDevices": devices}, {"thingGroupArn": TARGET})
        stub.add_response("list_effective_deployments", {"effectiveDeployments": [said]})
        stub.add_response("list_effective_deployments", {"effectiveDeployments": []})
        assert GreengrassFleet().status(TARGET, "d") == [
            EdgeStatus("core-1", "FAILED", "BROKEN"),
            EdgeStatus("core-2", "QUEUED"),
        ]


def event(number: int, kind: str, second: float, **details: Any) -> dict[str, Any]:
    at = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(seconds=second)
    return {"id": number, "previousEventId": number - 1, "type": kind, "timestamp": at, **details}


def test_usage_is_counted_from_the_history() -> None:
    scheduled = {
        "resourceType": "lambda",
        "resource": "invoke",
        "region": "eu-west-1",
        "parameters": json.dumps({"FunctionName": "f"}),
    }
    events = [
        event(1, "ExecutionStarted", 0),
        event(2, "TaskStateEntered", 0, stateEnteredEventDetails={"name": "PlanTraining"}),
        event(3, "TaskScheduled", 1, taskScheduledEventDetails=scheduled),
        event(4, "TaskStarted", 1),
        event(5, "TaskSucceeded", 3),
        event(6, "SucceedStateEntered", 3, stateEnteredEventDetails={"name": "Deployed"}),
    ]
    with answers("stepfunctions") as stub, answers("lambda") as functions:
        stub.add_response("get_execution_history", {"events": events})
        functions.add_response("get_function_configuration", {"MemorySize": 512}, {"FunctionName": "f"})
        usage = usage_of("arn:execution", 60.0, 2.0)
    assert (usage.state_transitions, usage.lambda_requests) == (2, 1)
    assert usage.lambda_gb_seconds == pytest.approx(2 * 0.5)
    with answers("stepfunctions") as stub, answers("lambda") as functions:
        stub.add_response("get_execution_history", {"events": events})
        functions.add_response("get_function_configuration", {"MemorySize": 512}, {"FunctionName": "f"})
        used = used_by("arn:execution", running=True)
    assert used is not None
    # The state that asks is on its way, and the last one follows it.
    assert (used.state_transitions, used.lambda_requests) == (3, 2)
    assert used.lambda_gb_seconds == usage.lambda_gb_seconds
