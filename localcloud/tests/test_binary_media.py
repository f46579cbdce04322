"""Binary media types: what reaches a function as base64, and what a client gets of a function's base64."""

import base64
import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from urllib.request import Request

import pytest
from conftest import REGION, Cloud

from isthmus_localcloud.binary_media import is_binary, packed

SOURCE = """
import json
def handler(event, context):
    wanted = (event["queryStringParameters"] or {}).get("answer")
    if wanted:
        return {"statusCode": 200, "body": wanted, "isBase64Encoded": True, "headers": {"X-Kind": "bytes"}}
    return {"statusCode": 200, "body": json.dumps([event["body"], event["isBase64Encoded"]])}
"""
BYTES = b"\x00\xff\xfe"


@dataclass(frozen=True)
class Api:
    url: str

    def send(self, body: bytes | None = None, query: str = "", **headers: str) -> bytes:
        method = "GET" if body is None else "POST"
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = Request(f"{self.url}/echo{query}", body, named, method=method)
        if body is not None and "Content-Type" not in named:
            # urllib would name a form.
            request.add_unredirected_header("Content-Type", "")
        with urllib.request.urlopen(request, timeout=60) as answer:
            found: bytes = answer.read()
        return found

    def seen(self, body: bytes | None = None, **headers: str) -> tuple[str | None, bool]:
        """What the function was given."""
        got, encoded = json.loads(self.send(body, **headers))
        return got, encoded


def make(cloud: Cloud, name: str, types: list[str]) -> Api:
    gateway, arn = cloud.client("apigateway"), cloud.function(f"binary-{name}", SOURCE)
    cloud.client("lambda").add_permission(
        FunctionName=arn,
        StatementId="api",
        Action="lambda:InvokeFunction",
        Principal="apigateway.amazonaws.com",
    )
    made = gateway.create_rest_api(name=name, binaryMediaTypes=types)
    resource = gateway.create_resource(restApiId=made["id"], parentId=made["rootResourceId"], pathPart="echo")
    method = {"restApiId": made["id"], "resourceId": resource["id"], "httpMethod": "ANY"}
    gateway.put_method(**method, authorizationType="NONE")
    uri = f"arn:aws:apigateway:{REGION}:lambda:path/2015-03-31/functions/{arn}/invocations"
    gateway.put_integration(**method, type="AWS_PROXY", integrationHttpMethod="POST", uri=uri)
    gateway.create_deployment(restApiId=made["id"], stageName="t")
    return Api(f"{cloud.url}/_aws/execute-api/{made['id']}/t")


@pytest.fixture(scope="module")
def all_binary(cloud: Cloud) -> Api:
    return make(cloud, "all", ["*/*"])


@pytest.fixture(scope="module")
def some_binary(cloud: Cloud) -> Api:
    return make(cloud, "some", ["application/octet-stream", "image/*"])


def encoded(body: bytes) -> tuple[str, bool]:
    return base64.b64encode(body).decode(), True


@pytest.mark.parametrize("headers", [{}, {"Content_Type": "application/json"}, {"Content_Type": "image/png"}])
def test_with_the_wildcard_every_body_is_base64(all_binary: Api, headers: dict[str, str]) -> None:
    assert all_binary.seen(b'{"a": 1}', **headers) == encoded(b'{"a": 1}')
    assert all_binary.seen(BYTES, **headers) == encoded(BYTES)
    assert all_binary.seen() == (None, False)


def test_the_media_type_decides_and_not_the_bytes(some_binary: Api) -> None:
    for kind in ("application/octet-stream", "image/jpeg", "Image/PNG; q=1"):
        assert some_binary.seen(b"text", Content_Type=kind) == encoded(b"text")
    assert some_binary.seen(b"text", Content_Type="text/plain") == ("text", False)
    assert some_binary.seen(b"text") == ("text", False)
    assert some_binary.seen(BYTES, Content_Type="application/json") == ("\0��", False)


def test_base64_becomes_bytes_for_who_accepts_them(all_binary: Api, some_binary: Api) -> None:
    query = "?answer=AP_-".replace("_", "%2F").replace("-", "%2B")
    for accept in ({}, {"Accept": "application/json"}, {"Accept": "text/html, image/png"}):
        assert all_binary.send(None, query, **accept) == b"\x00\xff\xfe"
    assert some_binary.send(None, query, Accept="image/png, text/html") == b"\x00\xff\xfe"
    assert some_binary.send(None, query, Accept="text/html, image/png") == b"AP/+"


def test_what_a_list_includes() -> None:
    assert is_binary(None, ["application/json"])
    assert not is_binary("text/plain", [])
    assert not is_binary("imagery/png", ["image/*"])
    assert packed(b"", "image/png", ["*/*"]) == (None, False)


def test_an_imported_description_brings_its_types_and_its_words(cloud: Cloud) -> None:
    """As SAM writes them into the API's body."""
    said = {"responseTemplates": {"application/json": '{"error":$context.error.messageString}'}}
    method = {"security": [{"AWS_IAM": []}], "responses": {}}
    method["x-amazon-apigateway-integration"] = {"type": "mock"}
    scheme = {"type": "apiKey", "name": "Authorization", "in": "header"}
    body = {
        "swagger": "2.0",
        "info": {"title": "imported", "version": "1.0"},
        "paths": {"/guarded": {"get": method}},
        "securityDefinitions": {"AWS_IAM": {**scheme, "x-amazon-apigateway-authtype": "awsSigv4"}},
        "x-amazon-apigateway-binary-media-types": ["*/*"],
        "x-amazon-apigateway-gateway-responses": {"DEFAULT_4XX": said},
    }
    gateway = cloud.client("apigateway")
    made = gateway.import_rest_api(body=json.dumps(body).encode())
    assert made["binaryMediaTypes"] == ["*/*"]
    gateway.create_deployment(restApiId=made["id"], stageName="t")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{cloud.url}/_aws/execute-api/{made['id']}/t/guarded", timeout=60)
    assert refused.value.code == 403
    assert json.loads(refused.value.read()) == {"error": "Missing Authentication Token"}
