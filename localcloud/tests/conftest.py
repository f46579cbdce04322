"""One local cloud for the whole session, and helpers that wait for conditions instead of sleeping."""

import io
import json
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

REGION = "eu-west-1"
ROLE = "arn:aws:iam::000000000000:role/test"
TRAIN = Path(__file__).parent / "train.py"


def cli(state: Path, *arguments: str, **environment: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, the JSON object that was printed, and what stderr said."""
    command = [sys.executable, "-m", "isthmus_localcloud", *arguments, "--state", str(state), "--json"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=170, env={**os.environ, **environment}
    )
    return done.returncode, json.loads(done.stdout) if done.stdout.strip() else {}, done.stderr


def wait_for[T](probe: Callable[[], T | None], seconds: float = 30.0) -> T:
    """The first true value that ``probe`` gives."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := probe():
            return value
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s")


def zipped(**files: str) -> bytes:
    """A zip with ``a__b=TEXT`` as ``a/b.py``."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(name.replace("__", "/") + ".py", text)
    return buffer.getvalue()


class Cloud:
    """A running local cloud and its clients."""

    def __init__(self, state: Path, endpoint: dict[str, Any]) -> None:
        self.state, self.endpoint, self.url = state, endpoint, endpoint["endpoint_url"]
        self._clients: dict[str, Any] = {}

    def client(self, name: str) -> Any:
        if name not in self._clients:
            self._clients[name] = boto3.client(
                name,
                endpoint_url=self.url,
                region_name=REGION,
                aws_access_key_id="test",
                aws_secret_access_key="test",
                config=Config(retries={"max_attempts": 0}, read_timeout=60, inject_host_prefix=False),
            )
        return self._clients[name]

    def cli(self, *arguments: str) -> dict[str, Any]:
        code, answer, errors = cli(self.state, *arguments)
        assert code == 0, (arguments, answer, errors)
        return answer

    def function(self, name: str, source: str, **options: Any) -> str:
        """Create or update a function and return its ARN once it is active."""
        client = self.client("lambda")
        wanted = {"Runtime": "python3.13", "Role": ROLE, "Handler": "app.handler", "Timeout": 10, **options}
        client.create_function(FunctionName=name, Code={"ZipFile": zipped(app=source)}, **wanted)
        waiter = client.get_waiter("function_active_v2")
        waiter.config.delay = 0.1
        waiter.wait(FunctionName=name)
        return f"arn:aws:lambda:{REGION}:000000000000:function:{name}"

    def invoke(self, name: str, event: Any = None, **options: Any) -> tuple[str | None, Any, dict[str, Any]]:
        """FunctionError, payload, whole answer."""
        answer = self.client("lambda").invoke(
            FunctionName=name, Payload=json.dumps(event), LogType="Tail", **options
        )
        return answer.get("FunctionError"), json.loads(answer["Payload"].read() or b"null"), answer

    def execute(
        self, definition: dict[str, Any], event: Any = None, while_running: Any = None
    ) -> dict[str, Any]:
        """Run a state machine to its end and describe the execution."""
        client = self.client("stepfunctions")
        name = f"m{time.monotonic_ns()}"
        machine = client.create_state_machine(name=name, definition=json.dumps(definition), roleArn=ROLE)
        started = client.start_execution(
            stateMachineArn=machine["stateMachineArn"], input=json.dumps(event or {})
        )
        if while_running:
            while_running(started["executionArn"])

        def ended() -> dict[str, Any] | None:
            found = client.describe_execution(executionArn=started["executionArn"])
            return found if found["status"] != "RUNNING" else None

        return wait_for(ended, 60)


def make_role(cloud: Cloud, name: str, services: list[str], *statements: dict[str, Any]) -> str:
    """A role that the services may assume, with one inline policy ``policy``; its ARN."""
    trust = {"Effect": "Allow", "Principal": {"Service": services}, "Action": "sts:AssumeRole"}
    iam = cloud.client("iam")
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=document)["Role"]["Arn"]
    allow(cloud, name, *statements)
    return str(arn)


def allow(cloud: Cloud, role: str, *statements: dict[str, Any]) -> None:
    """Give a role these statements in place of those that it has."""
    policy = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
    cloud.client("iam").put_role_policy(RoleName=role, PolicyName="policy", PolicyDocument=policy)


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    state = tmp_path_factory.mktemp("cloud") / "state"
    image = f"train={sys.executable} {TRAIN}"
    code, answer, errors = cli(
        state, "up", "--port", "0", "--image", image, ISTHMUS_LOCALCLOUD_STOP_GRACE_SECONDS="2"
    )
    assert code == 0, (answer, errors)
    started = Cloud(state, answer)
    services = ["lambda.amazonaws.com", "states.amazonaws.com", "sagemaker.amazonaws.com"]
    make_role(started, "test", services, {"Effect": "Allow", "Action": "*", "Resource": "*"})
    yield started
    assert cli(state, "down")[0] == 0


def task(resource: str, parameters: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A state machine of one task."""
    state = {
        "Type": "Task",
        "Resource": f"arn:aws:states:::{resource}",
        "Parameters": parameters,
        "End": True,
        **more,
    }
    return {"StartAt": "A", "States": {"A": state}}
