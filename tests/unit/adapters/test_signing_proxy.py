"""The signing proxy: what it passes on, that the signature is right, and whom it does not serve."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from isthmus import bootstrap
from isthmus.adapters.aws.signing import ENDPOINT_VARIABLES
from isthmus.edge.server import EdgeServer
from isthmus.inference.http import BINARY, HttpRequest, HttpResponse, json_response

HOST = "abc123.execute-api.eu-west-1.amazonaws.com"
API = f"https://{HOST}/v"
SECRET = "the secret"
KEY = "AKIDEXAMPLE"


class Gateway:
    """Answers who signs rightly, as AWS would; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[HttpRequest] = []

    def handle(self, request: HttpRequest) -> HttpResponse:
        self.asked.append(request)
        if not signed_rightly(request):
            return json_response({"error": "the signature does not match"}, 403)
        if request.path.endswith("/bytes"):
            headers = {
                "content-type": BINARY,
                "inference-header-content-length": "0",
                "keep-alive": "timeout=1",
            }
            return HttpResponse(200, request.body, headers)
        return json_response({"path": request.path})


def signed_rightly(request: HttpRequest) -> bool:
    found = re.search(r"SignedHeaders=([^,]+), Signature=(\w+)", request.header("authorization"))
    if found is None:
        return False
    headers = {name: request.header(name) for name in found[1].split(";")}
    url = f"https://{request.header('host')}{request.path}"
    again = AWSRequest(request.method, url, data=request.body, headers=headers)
    again.context["timestamp"] = request.header("x-amz-date")
    auth = SigV4Auth(Credentials(KEY, SECRET), "execute-api", "eu-west-1")
    return auth.signature(auth.string_to_sign(again, auth.canonical_request(again)), again) == found[2]


class Elsewhere(EdgeServer):
    """Stands for a server that is not on this machine: it is asked under any name."""

    def answer(self, request: HttpRequest) -> HttpResponse:
        return self.service.handle(request)


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    behind = Gateway()
    server = Elsewhere(behind, 0, max_request_bytes=1_000_000)
    server.start()
    for name in ("AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv(ENDPOINT_VARIABLES[0], f"http://127.0.0.1:{server.port}")
    yield behind
    server.close()


@pytest.fixture
def proxy(gateway: Gateway) -> Iterator[http.client.HTTPConnection]:
    server = bootstrap.signing_proxy(API, 0)
    server.start()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    yield connection
    connection.close()
    server.close()


def ask(proxy: http.client.HTTPConnection, *arguments: Any, **more: Any) -> tuple[int, bytes]:
    proxy.request(*arguments, **more)
    answer = proxy.getresponse()
    return answer.status, answer.read()


@pytest.mark.parametrize(
    "path",
    [
        "/v2",
        "/v2/models/a%20b/ready",
        "/v2/models/v1..2/ready?x=..",
        "/v2/models/digits/classify?top_k=3&x=a%2Fb",
        "/v2/models/%25/ready",
    ],
)
def test_it_signs_what_it_passes_on(proxy: http.client.HTTPConnection, path: str) -> None:
    status, body = ask(proxy, "GET", path)
    assert (status, json.loads(body)) == (200, {"path": f"/v{path}"})


def test_bytes_and_headers_pass_in_both_directions(
    proxy: http.client.HTTPConnection, gateway: Gateway
) -> None:
    sent = bytes(range(256))
    headers = {
        "Inference-Header-Content-Length": "7",
        "Authorization": "Bearer x",
        "Connection": "keep-alive",
    }
    proxy.request("POST", "/v2/bytes", body=sent, headers=headers)
    answer = proxy.getresponse()
    assert (answer.status, answer.read()) == (200, sent)
    assert (answer.getheader("content-type"), answer.getheader("keep-alive")) == (BINARY, None)
    assert answer.getheader("inference-header-content-length") == "0"
    (asked,) = gateway.asked
    assert asked.header("inference-header-content-length") == "7"
    assert asked.header("host") == HOST
    assert asked.header("authorization").startswith("AWS4-HMAC-SHA256")


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/", {}, 404),
        ("/v20", {}, 404),
        ("/other", {}, 404),
        ("http://example.com/v2", {"Host": "127.0.0.1"}, 404),
        ("/v2", {"Host": "evil.example"}, 403),
        ("/v2", {"Host": "127.0.0.1.evil.example:80"}, 403),
        ("/v2", {"Origin": "https://evil.example"}, 403),
        ("/v2", {"Host": "[::1"}, 403),
        ("/v2", {"Sec-Fetch-Site": "cross-site"}, 403),
        ("/v2/../../prod/admin", {}, 400),
        ("/v2/..", {}, 400),
        ("/v2/models/./ready", {}, 400),
        ("/v2/%2e%2E/prod", {}, 400),
        ("/v2/..%2Fprod", {}, 400),
        ("/v2/..\\prod", {}, 400),
        ("/v2/..#x", {}, 400),
    ],
)
def test_whom_it_does_not_serve(
    proxy: http.client.HTTPConnection, gateway: Gateway, path: str, headers: dict[str, str], status: int
) -> None:
    """A web page must not act with the user's rights, whatever name it gives to this machine."""
    found = ask(proxy, "GET", path, headers=headers)
    assert (found[0], list(json.loads(found[1]))) == (status, ["error"])
    assert gateway.asked == []


def test_a_method_that_the_gateway_lacks_is_405(proxy: http.client.HTTPConnection, gateway: Gateway) -> None:
    proxy.request("TRACE", "/v2/models/digits/infer")
    answer = proxy.getresponse()
    assert (answer.status, answer.getheader("allow"), list(json.loads(answer.read()))) == (
        405,
        "POST",
        ["error"],
    )
    assert gateway.asked == []


def test_by_the_name_localhost_too(proxy: http.client.HTTPConnection) -> None:
    assert ask(proxy, "GET", "/v2", headers={"Host": "localhost:8771"})[0] == 200


def test_the_apis_refusal_is_passed_on(
    proxy: http.client.HTTPConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    assert ask(proxy, "GET", "/v2") == (403, b'{"error":"the signature does not match"}')


def test_an_api_that_is_away_is_502(
    proxy: http.client.HTTPConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENDPOINT_VARIABLES[0], "http://127.0.0.1:9")
    status, body = ask(proxy, "GET", "/v2")
    assert (status, "did not answer" in json.loads(body)["error"]) == (502, True)


SPENT = '{"Version": 1, "AccessKeyId": "a", "SecretAccessKey": "b", "Expiration": "2020-01-01T00:00:00Z"}'


@pytest.mark.parametrize(
    "command", ["/bin/false", "/nowhere/sign-in", "/bin/echo oops", f"/bin/echo '{SPENT}'"]
)
def test_credentials_that_cannot_be_had_are_401(
    proxy: http.client.HTTPConnection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    (tmp_path / "config").write_text(f"[default]\ncredential_process = {command}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    status, body = ask(proxy, "GET", "/v2")
    assert status == 401
    assert json.loads(body)["error"].startswith("AWS credentials are needed to sign the request")


def test_a_profile_that_is_not_there_is_401(
    proxy: http.client.HTTPConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    status, body = ask(proxy, "GET", "/v2")
    assert (status, "nobody" in json.loads(body)["error"]) == (401, True)
