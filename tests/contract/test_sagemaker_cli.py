"""``isthmus sagemaker`` as it is typed, against AWS's interfaces."""

from __future__ import annotations

import json
from typing import Any

import pytest

from isthmus.adapters.aws.records import DynamoRecords
from isthmus.adapters.aws.session import client
from isthmus.cli.main import main
from isthmus.model.cloud import CloudTraining
from isthmus.workflows.loading import load_cloud_training
from tests.contract.formation import Formation, outputs_of

pytestmark = pytest.mark.usefixtures("aws")

URI = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/training:mxnet-1.9.1"


@pytest.fixture
def records(aws: None) -> DynamoRecords:
    Formation(stacks={"shop": []}).install()
    table = outputs_of("shop")["Table"]
    client("dynamodb").create_table(
        TableName=table,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
        KeySchema=[
            {"AttributeName": "pk", "KeyType": "HASH"},
            {"AttributeName": "sk", "KeyType": "RANGE"},
        ],
    )
    return DynamoRecords(table)


def isthmus(*arguments: str) -> int:
    return main(["sagemaker", *arguments, "--stack", "shop", "--json"])


def test_what_is_set_is_shown_and_planned_with(
    records: DynamoRecords, capsys: pytest.CaptureFixture[str]
) -> None:
    assert isthmus("show") == 0
    assert json.loads(capsys.readouterr().out) is None
    assert isthmus("set", "--image", f"mxnet-1.9.1={URI}") == 0
    assert load_cloud_training(records) == CloudTraining(images={"mxnet-1.9.1": URI})
    assert isthmus("set", "--types", "ml.c5.xlarge", "--spot", "no", "--volume-gb", "50") == 0
    wanted = CloudTraining(
        instance_types=("ml.c5.xlarge",), images={"mxnet-1.9.1": URI}, spot=False, volume_gb=50
    )
    assert load_cloud_training(records) == wanted, "what is not given stays as it was"
    capsys.readouterr()
    assert isthmus("show") == 0
    shown: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (shown["spot"], shown["instance_types"]) == (False, ["ml.c5.xlarge"])
    assert isthmus("set", "--image", "mxnet-1.9.1=") == 0
    assert (load_cloud_training(records) or CloudTraining()).images == {}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--types", "ml.none.large"), "SageMaker's ml.none.large is not listed"),
        (("--image", "mxnet=x"), "needs FRAMEWORK-VERSION=URI"),
        (("--image", "mxnet-1.9.1=docker.io/x:1"), "needs an address of Amazon ECR"),
        (("--volume-gb", "0"), "volume_gb"),
    ],
)
def test_what_makes_no_sense_is_refused(
    records: DynamoRecords, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    assert isthmus("set", *arguments) == 2
    assert said in json.loads(capsys.readouterr().out)["message"]
    assert load_cloud_training(records) is None
