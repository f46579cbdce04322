"""API Gateway's limits, over HTTP: payloads, base64, the integration's time."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import pytest
from conftest import REGION, Cloud

from isthmus_localcloud.refusals import limits

SOURCE = """
import time
def handler(event, context):
    time.sleep(float((event["queryStringParameters"] or {}).get("seconds", 0)))
    return {"statusCode": 200, "body": str(len(event["body"] or "")), "isBase64Encoded": False}
"""
QUICK_MILLISECONDS = 1_000


@dataclass(frozen=True)
class Api:
    url: str

    def post(self, path: str, body: bytes = b"", kind: str = "text/plain") -> tuple[int, str]:
        """Status and text of the answer."""
        request = urllib.request.Request(f"{self.url}{path}", body, {"Content-Type": kind}, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


@pytest.fixture(scope="module")
def api(cloud: Cloud) -> Api:
    """/mock answers by itself; /function and /quick call a function, the second for a second at most."""
    gateway, arn = cloud.client("apigateway"), cloud.function("sleeper", SOURCE, Timeout=60)
    cloud.client("lambda").add_permission(
        FunctionName=arn,
        StatementId="api",
        Action="lambda:InvokeFunction",
        Principal="apigateway.amazonaws.com",
    )
    made = gateway.create_rest_api(name="limits", binaryMediaTypes=["application/octet-stream"])
    uri = f"arn:aws:apigateway:{REGION}:lambda:path/2015-03-31/functions/{arn}/invocations"
    proxy = {"type": "AWS_PROXY", "integrationHttpMethod": "POST", "uri": uri}
    mock = {"type": "MOCK", "requestTemplates": {"text/plain": '{"statusCode": 200}'}}
    for name, integration in (
        ("mock", mock),
        ("function", proxy),
        ("quick", {**proxy, "timeoutInMillis": QUICK_MILLISECONDS}),
    ):
        resource = gateway.create_resource(
            restApiId=made["id"], parentId=made["rootResourceId"], pathPart=name
        )
        method = {"restApiId": made["id"], "resourceId": resource["id"], "httpMethod": "POST"}
        gateway.put_method(**method, authorizationType="NONE")
        gateway.put_integration(**method, **integration)
        if integration is mock:
            gateway.put_method_response(**method, statusCode="200")
            gateway.put_integration_response(**method, statusCode="200")
    gateway.create_deployment(restApiId=made["id"], stageName="t")
    return Api(f"{cloud.url}/_aws/execute-api/{made['id']}/t")


@pytest.fixture(scope="module", autouse=True)
def slow_answers(api: Api) -> Iterator[dict[float, Future[tuple[int, str]]]]:
    """Calls around 29 seconds, made while the other tests run."""
    with ThreadPoolExecutor(2) as pool:
        yield {seconds: pool.submit(api.post, f"/function?seconds={seconds}") for seconds in (27.0, 31.0)}


@pytest.mark.parametrize(("size", "status"), [(limits.API_PAYLOAD.value, 200), (10_485_761, 413)])
def test_requests(api: Api, size: int, status: int) -> None:
    found = api.post("/mock", b"x" * size)
    assert found[0] == status
    assert status == 200 or found[1] == "HTTP content length exceeded 10485760 bytes."


@pytest.mark.parametrize(
    ("kind", "size", "status"),
    [
        ("text/plain", 6_280_000, 200),
        ("text/plain", limits.LAMBDA_SYNCHRONOUS_REQUEST.value, 413),
        ("application/octet-stream", 4_700_000, 200),
        ("application/octet-stream", 4_718_592, 413),
    ],
)
def test_events(api: Api, kind: str, size: int, status: int) -> None:
    """Six megabytes of event, its frame included: three quarters of them for binary, which becomes base64."""
    found = api.post("/function", (b"x" if kind == "text/plain" else b"\xff") * size, kind)
    assert found[0] == status
    if status == 200:
        assert int(found[1]) == (size if kind == "text/plain" else (size + 2) // 3 * 4)
    else:
        assert json.loads(found[1]) == {"message": "Request Too Long"}


@pytest.mark.parametrize(("seconds", "status"), [(0, 200), (2, 504)])
def test_time_of_an_integration_that_sets_it(api: Api, seconds: float, status: int) -> None:
    assert api.post(f"/quick?seconds={seconds}")[0] == status


@pytest.mark.parametrize(("seconds", "status"), [(27.0, 200), (31.0, 504)])
def test_29_seconds(slow_answers: dict[float, Future[tuple[int, str]]], seconds: float, status: int) -> None:
    found = slow_answers[seconds].result(60)
    assert found[0] == status
    assert status == 200 or json.loads(found[1]) == {"message": "Endpoint request timed out"}
