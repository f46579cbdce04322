"""``isthmus dataset push`` for data that their policy keeps where they are, against an account."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from formation import Formation

from isthmus import bootstrap
from isthmus.adapters.aws.session import client
from isthmus.cli.main import main
from isthmus.model.device import DeviceDescriptor

TABLE, BUCKET = "shop-Table-1X", "shop-123456789012-eu-west-1"
JOB = """
model: digits
source:
  kind: training
  framework: {name: mxnet, version: 1.9.1}
  entry_point: train.py
  code: code
evaluation:
  inputs: {path: test/x.csv, decode: {format: csv}}
  labels: {path: test/y.csv, decode: {format: csv}}
"""
SECRET = "4711,38.9\n"


@pytest.fixture
def project(aws: None, tmp_path: Path) -> Path:
    """A dataset, code and a job; a stack without devices."""
    bootstrap.blobs.cache_clear()
    bootstrap.records.cache_clear()
    client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    client("dynamodb").create_table(
        TableName=TABLE,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
        BillingMode="PAY_PER_REQUEST",
    )
    Formation(stacks={"shop": []}).install()
    for name, text in (
        ("data/test/x.csv", SECRET),
        ("data/test/y.csv", "1\n"),
        ("code/train.py", "print()\n"),
        ("job.yaml", JOB),
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def push(project: Path, *more: str) -> int:
    data, job = str(project / "data"), str(project / "job.yaml")
    return main(
        ["dataset", "push", data, "--name", "wards", "--job", job, "--stack", "shop", "--json", *more]
    )


def pin(zones: str = "onprem-*") -> None:
    assert main(["policy", "set", "wards", "--zones", zones, "--stack", "shop", "--json"]) == 0


def join(name: str, zone: str, *roots: str) -> None:
    device = DeviceDescriptor(
        id=name,
        kind="rig",
        zone=zone,
        arch="x86_64",
        cores=1,
        memory_bytes=1,
        disk_free_bytes=1,
        data_roots=roots,
    )
    bootstrap.devices(TABLE).register(device)


def keys() -> list[str]:
    listed = client("s3").list_objects_v2(Bucket=BUCKET).get("Contents", [])
    return sorted(entry["Key"] for entry in listed)


def test_pinned_data_are_not_uploaded(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pin()
    capsys.readouterr()
    assert push(project) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["error"] == "PolicyViolation"
    assert said["message"] == (
        "needs a data policy of wards that lets raw data lie in aws:eu-west-1, where the bucket is; it lets them lie "
        "in onprem-* alone: leave them there, and push with --in-place"
    )
    assert keys() == []


def test_under_a_pinned_name_no_policy_lets_files_be_uploaded(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert push(project, "--name", "pinned-wards") == 1
    said = json.loads(capsys.readouterr().out)
    assert said["error"] == "PolicyViolation"
    assert "the bucket takes no files under such a name" in said["message"]
    assert keys() == []


def test_a_push_in_place_uploads_what_says_where_they_are(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pin()
    join("lab-1", "onprem-milan", "clinic")
    capsys.readouterr()
    assert push(project, "--in-place", "clinic/wards") == 0
    pushed = json.loads(capsys.readouterr().out)
    assert (pushed["files"], pushed["sent_files"]) == (2, 2)
    assert sorted(key.split("/")[-2] for key in keys()) == ["code", "jobs", "manifests"]
    objects = [client("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys()]
    assert all(SECRET.encode() not in data for data in objects)
    manifest = json.loads(client("s3").get_object(Bucket=BUCKET, Key=pushed["manifest_key"])["Body"].read())
    assert manifest["in_place"] == {"zone": "onprem-milan", "root": "clinic", "folder": "wards"}


@pytest.mark.parametrize(
    ("more", "error", "said"),
    [
        (
            ("--in-place", "wards"),
            "Refused",
            "needs a device with the data root wards; lab-1 in onprem-milan has clinic",
        ),
        (
            ("--in-place", "clinic"),
            "Refused",
            "which devices in aws-local and onprem-milan have: name it with --zone",
        ),
        (
            ("--in-place", "clinic", "--zone", "aws-local"),
            "PolicyViolation",
            "lets raw data lie in aws-local, where",
        ),
        (("--zone", "onprem-milan"), "InvalidInput", "--zone says where files lie that are not uploaded"),
    ],
)
def test_what_cannot_stay_where_it_is_said_to_be_is_refused(
    project: Path, more: tuple[str, ...], error: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pin()
    join("lab-1", "onprem-milan", "clinic")
    join("lab-2", "aws-local", "clinic")
    capsys.readouterr()
    assert push(project, *more) in (1, 2)
    answer = json.loads(capsys.readouterr().out)
    assert (answer["error"], said in answer["message"]) == (error, True), answer
    assert keys() == []


def test_without_a_policy_of_its_own_nothing_stays_where_it_is(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    join("lab-1", "onprem-milan", "clinic")
    capsys.readouterr()
    assert push(project, "--in-place", "clinic/wards") == 1
    said = json.loads(capsys.readouterr().out)
    assert said["error"] == "PolicyViolation"
    assert said["message"] == (
        "needs a data policy of wards itself, for its files are read in clinic/wards; it has none: have an "
        "administrator set one (isthmus policy set wards --zones onprem-milan), or push under a name with one"
    )
    assert keys() == []


def test_where_the_policy_lets_logs_go_it_is_said(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pin("*")
    join("lab-1", "onprem-milan", "clinic")
    data, job = str(project / "data"), str(project / "job.yaml")
    command = ["dataset", "push", data, "--name", "wards", "--job", job, "--stack", "shop"]
    assert main([*command, "--in-place", "clinic"]) == 0
    said = capsys.readouterr().out
    assert "2 files stay in clinic in onprem-milan; " in said
    assert "the policy of wards lets logs and checkpoints go to the bucket" in said
