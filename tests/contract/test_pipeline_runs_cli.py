"""``isthmus pipeline metrics`` and ``compare`` as they are typed, against AWS's interfaces."""

from __future__ import annotations

import json
from typing import Any

import pytest

from isthmus import documents
from isthmus.adapters.aws.blobs import S3BlobStore
from isthmus.adapters.aws.records import DynamoRecords
from isthmus.adapters.aws.session import client
from isthmus.cli.main import main
from isthmus.model import layout
from isthmus.model.blob import BlobRef
from isthmus.model.job import Framework, Job, Training
from isthmus.model.output import Curve, Curves
from tests.contract.formation import REGION, Formation, outputs_of

pytestmark = pytest.mark.usefixtures("aws")

KEY, OTHER = "a" * 40, "b" * 40
PROGRESS = Curve(seconds=(0.0, 1.0), values=(0.5, 1.0))
LOSS = Curve(seconds=(0.0, 5.0, 10.0), values=(1.5, 0.5, 0.25), stride=2)


@pytest.fixture
def stack(aws: None) -> str:
    """A stack with two jobs that were trained; nothing is known of their executions."""
    Formation(stacks={"shop": []}).install()
    outputs = outputs_of("shop")
    place = {"LocationConstraint": REGION}
    client("s3").create_bucket(Bucket=outputs["Bucket"], CreateBucketConfiguration=place)  # type: ignore[typeddict-item]
    client("dynamodb").create_table(
        TableName=outputs["Table"],
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
    )
    role = client("iam").create_role(RoleName="m", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    machine = {"StartAt": "End", "States": {"End": {"Type": "Succeed"}}}
    client("stepfunctions").create_state_machine(
        name=layout.machines("shop")[0], definition=json.dumps(machine), roleArn=role
    )
    blobs, records = S3BlobStore(outputs["Bucket"]), DynamoRecords(outputs["Table"])
    for key, rate in ((KEY, 0.1), (OTHER, 0.2)):
        source = Training(
            framework=Framework(name="mxnet", version="1.9.1"),
            entry_point="train.py",
            code=BlobRef(key="c", sha256="0" * 64, size_bytes=1),
            hyperparameters={"rate": rate, "epochs": 3},
        )
        blobs.put(layout.registered_job(key), documents.encode(Job(model="digits", source=source)))
        prefix = layout.attempt_output(key, 1)
        curves = Curves(curves={"loss": LOSS, "notebook_progress": PROGRESS})
        blobs.put(f"{prefix}curves.json", documents.encode(curves))
        records.next_number(layout.job_pk(key), "FENCING")
        outcome = {"state": "SUCCEEDED", "output": prefix, "seconds": 12.5, "metrics": {"loss": 0.25}}
        lease = {"fencing": 1, "rig": "lab-1", "state": "SUCCEEDED", "outcome": outcome}
        records.update(layout.job_pk(key), layout.LEASE, lease)
    return "shop"


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main(["pipeline", *arguments, "--stack", "shop", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_metrics_as_curves_and_as_numbers(stack: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pipeline", "metrics", KEY, "--stack", stack]) == 0
    text = capsys.readouterr().out
    heading = "loss 1.5 → 0.25, lowest 0.25, highest 1.5, 3 values in 10.0 s, 1 of 2 kept"
    assert text.splitlines()[:3] == [f"job {KEY}, attempt 1", "", heading]
    assert "notebook_progress" not in text
    assert said(capsys, "metrics", KEY, "--metric", "notebook_progress")["curves"]["curves"] == {
        "notebook_progress": {"seconds": [0.0, 1.0], "values": [0.5, 1.0], "stride": 1}
    }


def test_a_metric_that_was_not_printed_is_bad_input(stack: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pipeline", "metrics", KEY, "--metric", "los", "--stack", stack]) == 2
    assert "printed no los; it printed loss" in capsys.readouterr().err


def test_two_runs_side_by_side(stack: str, capsys: pytest.CaptureFixture[str]) -> None:
    document = said(capsys, "compare", KEY, OTHER)
    assert document["hyperparameters"] == {"epochs": {"a": 3, "b": 3}, "rate": {"a": 0.1, "b": 0.2}}
    assert main(["pipeline", "compare", KEY, OTHER, "--stack", stack]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [KEY[:12], OTHER[:12]]
    (rate,) = [line for line in lines if "rate" in line]
    (epochs,) = [line for line in lines if "epochs" in line]
    assert rate.split() == ["≠", "rate", "0.1", "0.2"]
    assert epochs.split() == ["epochs", "3", "3"]
