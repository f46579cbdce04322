"""A local cloud keeps to itself: beside another one, and without a single packet to elsewhere."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Cloud, cli, wait_for

PROBE = Path(__file__).parent / "offline_probe.py"
TEMPLATE = {
    "Parameters": {"Text": {"Type": "String"}},
    "Resources": {
        "Queue": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": "same-name"}},
        "Setting": {
            "Type": "AWS::SSM::Parameter",
            "Properties": {"Name": "/same/name", "Type": "String", "Value": {"Ref": "Text"}},
        },
    },
}


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """A second local cloud, on ports and a state folder of its own."""
    state = tmp_path_factory.mktemp("other") / "state"
    code, answer, errors = cli(state, "up", "--port", "0")
    assert code == 0, errors
    yield Cloud(state, answer)
    cli(state, "down")


def deploy(cloud: Cloud, text: str) -> None:
    stacks = cloud.client("cloudformation")
    stacks.create_stack(
        StackName="same",
        TemplateBody=json.dumps(TEMPLATE),
        Parameters=[{"ParameterKey": "Text", "ParameterValue": text}],
    )
    wait_for(
        lambda: stacks.describe_stacks(StackName="same")["Stacks"][0]["StackStatus"] == "CREATE_COMPLETE"
    )


def messages(cloud: Cloud) -> list[str]:
    sqs = cloud.client("sqs")
    queue = sqs.get_queue_url(QueueName="same-name")["QueueUrl"]
    found = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", [])
    return [message["Body"] for message in found]


def test_two_clouds_side_by_side(cloud: Cloud, other: Cloud) -> None:
    """The same names in both; each keeps its own; and one lives on when the other ends."""
    assert cloud.url != other.url and cloud.state != other.state
    for one, text in ((cloud, "first"), (other, "second")):
        deploy(one, text)
    other.client("sqs").create_queue(QueueName="only-here")
    for one, text in ((cloud, "first"), (other, "second")):
        queue = one.client("sqs").get_queue_url(QueueName="same-name")["QueueUrl"]
        one.client("sqs").send_message(QueueUrl=queue, MessageBody=text)
        assert one.client("ssm").get_parameter(Name="/same/name")["Parameter"]["Value"] == text
    assert (messages(cloud), messages(other)) == (["first"], ["second"])
    listed = cloud.client("sqs").list_queues().get("QueueUrls", [])
    assert not [url for url in listed if url.endswith("/only-here")]
    assert cli(other.state, "down")[0] == 0
    assert cloud.cli("status")["health"] == "ok"
    assert cloud.client("ssm").get_parameter(Name="/same/name")["Parameter"]["Value"] == "first"


def in_a_namespace(folder: Path) -> dict[str, Any]:
    """What the probe found. As another user than root, root of a user namespace."""
    flags = ["--net", "--mount", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
    tried = subprocess.run(["unshare", *flags, "true"], capture_output=True, text=True)
    assert tried.returncode == 0, (
        "this test needs network and mount namespaces to watch every packet, but this machine forbids them "
        f"({tried.stderr.strip()}): allow unprivileged user namespaces, or run it as root"
    )
    command = ["unshare", *flags, sys.executable, str(PROBE), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_no_packet_leaves(tmp_path: Path) -> None:
    """Not even a name look-up, from the start to the end; what is sent on purpose afterwards is seen."""
    found = in_a_namespace(tmp_path)
    assert found["packets"] == []
    assert found["control"] == ["tcp 203.0.113.7:443", "udp 198.51.100.53:53 (example.com)"]
