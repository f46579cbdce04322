"""Identities for the tests of IAM: users with keys of their own, and what a refusal says."""

import json
import uuid
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from conftest import REGION, Cloud

ACCOUNT = "000000000000"


def grant(action: str | list[str], resource: str | list[str] = "*", **condition: Any) -> dict[str, Any]:
    """An Allow statement; ``condition`` is its Condition block."""
    found = {"Effect": "Allow", "Action": action, "Resource": resource}
    return {**found, "Condition": condition} if condition else found


def client_with(cloud: Cloud, service: str, key: str, secret: str, token: str | None = None) -> Any:
    return boto3.client(
        service,
        endpoint_url=cloud.url,
        region_name=REGION,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        aws_session_token=token,
        config=Config(retries={"max_attempts": 0}, inject_host_prefix=False),
    )


class User:
    """An IAM user with one access key and, from ``may`` on, exactly the given statements."""

    def __init__(self, cloud: Cloud, *statements: dict[str, Any]) -> None:
        self.cloud, self.name = cloud, f"u{uuid.uuid4().hex[:8]}"
        iam = cloud.client("iam")
        iam.create_user(UserName=self.name)
        made = iam.create_access_key(UserName=self.name)["AccessKey"]
        self.key, self.secret = made["AccessKeyId"], made["SecretAccessKey"]
        self.arn = f"arn:aws:iam::{ACCOUNT}:user/{self.name}"
        self._clients: dict[str, Any] = {}
        if statements:
            self.may(*statements)

    def may(self, *statements: dict[str, Any]) -> None:
        policy = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
        self.cloud.client("iam").put_user_policy(
            UserName=self.name, PolicyName="policy", PolicyDocument=policy
        )

    def client(self, service: str) -> Any:
        if service not in self._clients:
            self._clients[service] = client_with(self.cloud, service, self.key, self.secret)
        return self._clients[service]

    def refused(self, action: str, call: Callable[..., Any], *codes: str, **arguments: Any) -> str:
        """Assert that the call is refused for want of the action; return the message."""
        with pytest.raises(ClientError) as caught:
            call(**arguments)
        error = caught.value.response["Error"]
        assert error["Code"] in (codes or ("AccessDenied", "AccessDeniedException")), error
        expected = f"User: {self.arn} is not authorized to perform: {action} on resource: "
        assert error["Message"].startswith(expected), error["Message"]
        return str(error["Message"])


def customer_key(cloud: Cloud) -> str:
    """The ARN of a key whose policy hands the decision to the account, as templates mostly do."""
    root = {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}
    statement = {"Effect": "Allow", "Principal": root, "Action": "kms:*", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    return str(cloud.client("kms").create_key(Policy=policy)["KeyMetadata"]["Arn"])


def record(cloud: Cloud) -> list[dict[str, Any]]:
    """The lines of the record so far."""
    file = cloud.state / "logs/iam.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
