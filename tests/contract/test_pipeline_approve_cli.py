"""``isthmus pipeline approve`` as it is typed, against AWS's interfaces."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.stub import ANY, Stubber

from isthmus.adapters.aws.records import DynamoRecords
from isthmus.adapters.aws.session import client
from isthmus.cli.main import main
from isthmus.model import layout
from tests.contract.formation import Formation, outputs_of

pytestmark = pytest.mark.usefixtures("aws")

KEY, TOKEN = "a" * 40, "secret-token"
ASKED = {
    "execution": "arn:e",
    "model": "digits",
    "release": 2,
    "candidate": 0.97,
    "since": "2026-01-02T03:04:05+00:00",
    "until": "2026-01-09T03:04:05+00:00",
}


@pytest.fixture
def machine(aws: None) -> Iterator[Stubber]:
    """Step Functions; a model of the stack waits for an answer."""
    Formation(stacks={"shop": []}).install()
    table = outputs_of("shop")["Table"]
    client("dynamodb").create_table(
        TableName=table,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
    )
    DynamoRecords(table).update(layout.APPROVALS, KEY, {"token": TOKEN, "approval": ASKED})
    with Stubber(client("stepfunctions")) as stubber:
        yield stubber


def approve(capsys: pytest.CaptureFixture[str], *more: str, status: int = 0) -> str:
    assert main(["pipeline", "approve", *more, "--stack", "shop"]) == status
    said = capsys.readouterr()
    assert TOKEN not in said.out + said.err
    return said.out + said.err


def test_an_approval_carries_who_gave_it(machine: Stubber, capsys: pytest.CaptureFixture[str]) -> None:
    sent: list[dict[str, Any]] = []
    client("stepfunctions").meta.events.register_first(
        "provide-client-params.sfn.SendTaskSuccess", lambda params, **_: sent.append(dict(params))
    )
    machine.add_response("send_task_success", {}, {"taskToken": TOKEN, "output": ANY})
    said = approve(capsys, KEY, "--reason", "as discussed")
    arn = client("sts").get_caller_identity()["Arn"]
    assert said.startswith(f"release 2 of digits is approved by {arn} at ")
    assert said.endswith(": as discussed\n")
    output = json.loads(sent[0]["output"])
    assert (output["state"], output["by"], output["reason"]) == ("APPROVED", arn, "as discussed")
    assert set(output) == {"state", "by", "reason", "at"}


def test_a_rejection_is_an_answer_as_well(machine: Stubber, capsys: pytest.CaptureFixture[str]) -> None:
    assert "add --reason TEXT" in approve(capsys, KEY, "--reject", status=2)
    machine.add_response("send_task_success", {}, {"taskToken": TOKEN, "output": ANY})
    found = json.loads(approve(capsys, KEY, "--reject", "--reason", "no", "--json"))
    assert (found["job_key"], found["state"], found["reason"], found["candidate"]) == (
        KEY,
        "REJECTED",
        "no",
        0.97,
    )
    machine.assert_no_pending_responses()


def test_what_does_not_wait_any_more_is_one_sentence(
    machine: Stubber, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.add_client_error(
        "send_task_success", "TaskTimedOut", "Task Timed Out: 'Provided task does not exist'"
    )
    said = approve(capsys, KEY, status=1)
    assert said.startswith(f"isthmus: job {KEY} does not wait for approval any more: ")
    assert said.count("\n") == 1
    assert "does not wait for approval; see" in approve(capsys, "b" * 40, status=1)
