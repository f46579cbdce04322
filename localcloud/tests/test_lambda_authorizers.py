"""Lambda authorizers of REST APIs: who calls the function, and what a caller hears of its answer."""

import json
import urllib.error
import urllib.request
from typing import Any

import pytest
from conftest import REGION, Cloud

AUTHORIZER = """
def handler(event, context):
    token = event["authorizationToken"].split()[1]
    if token == "broken":
        raise ValueError("a fault of the authorizer's own")
    if token == "stranger":
        raise Exception("Unauthorized")
    effect = "Deny" if token == "banned" else "Allow"
    arn = event["methodArn"]
    statement = {"Effect": effect, "Action": "execute-api:Invoke", "Resource": arn}
    return {"principalId": token, "policyDocument": {"Version": "2012-10-17", "Statement": [statement]}}
"""
TARGET = """
def handler(event, context):
    return {"statusCode": 200, "body": event["requestContext"]["authorizer"]["principalId"]}
"""
INVOCATIONS = f"arn:aws:apigateway:{REGION}:lambda:path/2015-03-31/functions/%s/invocations"


def permit(cloud: Cloud, function: str, source: str) -> None:
    cloud.client("lambda").add_permission(
        FunctionName=function,
        StatementId="api",
        Action="lambda:InvokeFunction",
        Principal="apigateway.amazonaws.com",
        SourceArn=source,
    )


@pytest.fixture(scope="module")
def url(cloud: Cloud) -> str:
    """An API as SAM describes one: the authorizer may be called by an authorizer of this API alone."""
    asked, target = cloud.function("authorizer", AUTHORIZER), cloud.function("authorized", TARGET)
    authorizer = {
        "type": "token",
        "authorizerUri": INVOCATIONS % asked,
        "identityValidationExpression": "^Bearer [a-z]+$",
    }
    scheme = {
        "type": "apiKey",
        "name": "Authorization",
        "in": "header",
        "x-amazon-apigateway-authtype": "custom",
        "x-amazon-apigateway-authorizer": authorizer,
    }
    integration = {"type": "aws_proxy", "httpMethod": "POST", "uri": INVOCATIONS % target}
    method = {
        "x-amazon-apigateway-integration": integration,
        "security": [{"Tokens": []}],
        "responses": {},
    }
    described = {
        "swagger": "2.0",
        "info": {"title": "tokens", "version": "1"},
        "paths": {"/{proxy+}": {"x-amazon-apigateway-any-method": method}},
        "securityDefinitions": {"Tokens": scheme},
    }
    gateway = cloud.client("apigateway")
    api = gateway.import_rest_api(body=json.dumps(described).encode())["id"]
    account = f"arn:aws:execute-api:{REGION}:000000000000:{api}"
    permit(cloud, "authorizer", f"{account}/authorizers/*")
    permit(cloud, "authorized", f"{account}/*")
    gateway.create_deployment(restApiId=api, stageName="t")
    return f"{cloud.url}/_aws/execute-api/{api}/t/anything"


def ask(url: str, header: str | None) -> tuple[int, Any]:
    request = urllib.request.Request(url, headers={} if header is None else {"Authorization": header})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_whom_the_function_allows_is_answered_and_known_by_name(url: str) -> None:
    assert ask(url, "Bearer somebody") == (200, "somebody")


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (None, 401),
        ("Bearer stranger", 401),
        ("Bearer banned", 403),
        ("Bearer broken", 500),
        ("Basic somebody", 401),
        ("Bearer somebody else", 401),
        ("Bearer SOMEBODY", 401),
    ],
)
def test_everybody_else_is_told_why_not(url: str, header: str | None, status: int) -> None:
    found, body = ask(url, header)
    assert (found, [name.lower() for name in body]) == (status, ["message"]), (
        "AWS writes one of them in capitals"
    )
