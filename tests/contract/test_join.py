"""``isthmus rig join`` and what an agent does when it starts, against an account."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from isthmus import bootstrap, bootstrap_rig
from isthmus.adapters.aws.session import client
from isthmus.cli.rig_device import joined, shown
from isthmus.errors import EnvironmentProblem, InvalidInput
from isthmus.rig.settings import RigFile

pytestmark = pytest.mark.usefixtures("aws")


@pytest.fixture
def outputs(aws: None) -> dict[str, str]:
    """The outputs of a stack, as far as a join needs them, with what they name."""
    bootstrap.blobs.cache_clear()
    bootstrap.records.cache_clear()
    client("s3").create_bucket(
        Bucket="shop-data", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
    )
    keys = [{"AttributeName": name, "KeyType": kind} for name, kind in (("pk", "HASH"), ("sk", "RANGE"))]
    client("dynamodb").create_table(
        TableName="shop",
        KeySchema=keys,
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
        BillingMode="PAY_PER_REQUEST",
    )
    dead = client("sqs").create_queue(QueueName="dead")["QueueUrl"]
    arn = client("sqs").get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"][
        "QueueArn"
    ]
    return {
        "Bucket": "shop-data",
        "Table": "shop",
        "DeadLetters": arn,
        "DataKey": client("kms").create_key()["KeyMetadata"]["Arn"],
        "FinishAttemptFunction": "shop-finish",
    }


def join(outputs: dict[str, str], folder: Path, name: str = "lab-1", **given: Any) -> Any:
    values: dict[str, Any] = {"zone": "onprem-milan", "measure_rates": False} | given
    settings = RigFile(**values)
    return bootstrap_rig.join_rig(
        name, outputs, stack="shop", settings=settings, folder=folder, report=lambda line: None
    )


def test_a_rig_joins_with_its_queue_its_link_and_its_overrides(
    outputs: dict[str, str], tmp_path: Path
) -> None:
    cores = join(outputs, tmp_path).cores + 1
    device = join(outputs, tmp_path, cores=cores, price_per_hour_usd=0.5)
    assert bootstrap.devices("shop").list() == [device]
    assert client("sqs").get_queue_url(QueueName="shop-rig-lab-1")["QueueUrl"] == device.queue_url
    assert device.links[0].to == "relay"
    assert device.not_measured == {"rates": "not asked for"}
    assert client("s3").head_object(Bucket="shop-data", Key="probes/lab-1")["ContentLength"] == 0
    assert device.overrides == {"cores": cores - 1}
    assert "overridden: cores" in joined(device)
    lines = shown(device).splitlines()
    assert lines[0] == "lab-1"
    assert any(
        line.split() == f"cores {cores} (overridden; discovered: {cores - 1})".split() for line in lines
    )
    assert json.loads(json.dumps(msgspec.to_builtins(device)))["overrides"] == {"cores": cores - 1}


def test_an_edge_device_joins_without_a_queue_and_trains_nothing(
    outputs: dict[str, str], tmp_path: Path
) -> None:
    device = join(outputs, tmp_path, "shop-12", kind="edge")
    assert (device.kind, device.usage, device.queue_url) == ("edge", ("inference",), "")
    assert bootstrap.devices("shop").get("shop-12") == device
    assert "QueueUrls" not in client("sqs").list_queues(QueueNamePrefix="shop-rig-")
    assert joined(device).startswith("shop-12 joined in onprem-milan as edge: ")
    with pytest.raises(EnvironmentProblem, match="of kind edge, which trains nothing"):
        bootstrap_rig.rig_agent("shop-12", outputs, folder=tmp_path, report=lambda event, **fields: None)


def test_an_agent_that_starts_registers_what_changed(outputs: dict[str, str], tmp_path: Path) -> None:
    device = join(outputs, tmp_path)
    (tmp_path / "rig.toml").write_text("power_watts = 450\n")
    events: list[str] = []
    refresher = bootstrap_rig.refresher(
        device, outputs, folder=tmp_path, report=lambda event, **fields: events.append(event)
    )
    found = refresher.refresh()
    assert bootstrap.devices("shop").get("lab-1") == found
    assert (found.power_watts, found.links) == (450, device.links)
    assert events == ["device changed"]


def test_without_a_zone_nothing_is_made(outputs: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="needs the zone"):
        join(outputs, tmp_path, zone=None)
    assert "QueueUrls" not in client("sqs").list_queues(QueueNamePrefix="shop-rig-")
    assert bootstrap.devices("shop").list() == []


def test_data_roots_are_told_by_their_names_alone(outputs: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "secret-place").mkdir()
    roots = {"clinic": str(tmp_path / "secret-place"), "lab": str(tmp_path / "unmounted")}
    device = join(outputs, tmp_path / "rig", data_roots=roots)
    found = bootstrap.devices("shop").get("lab-1")
    assert found == device
    assert (device.data_roots, device.not_measured["data root lab"]) == (
        ("clinic",),
        "its folder is not there",
    )
    assert "reads in place: clinic" in joined(device)
    assert "secret-place" not in json.dumps(msgspec.to_builtins(device))
    with pytest.raises(InvalidInput, match=r"data_roots\.all needs a folder apart from the agent's own"):
        join(outputs, tmp_path / "rig", data_roots={"all": str(tmp_path)})
