"""Real clients' requests, as the border sees them: moto answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from isthmus.adapters.aws import crossings, multipart
from isthmus.adapters.aws.blobs import S3BlobStore
from isthmus.adapters.aws.bridge import SqsJobQueue
from isthmus.adapters.aws.records import DynamoRecords
from isthmus.adapters.aws.session import client
from isthmus.errors import PolicyViolation
from isthmus.model.crossing import Sent, what_is
from isthmus.sync.collect import file_sha256

KEY = "ab" * 20


class Seen(list[Sent]):
    """Requests; the object of that name's end is refused."""

    refused = ""

    def see(self, sent: Sent) -> None:
        if self.refused and sent.name.endswith(self.refused):
            raise PolicyViolation("held back")
        self.append(sent)

    def sizes(self, operation: str) -> list[int]:
        return [sent.size_bytes for sent in self if sent.operation == operation]


@pytest.fixture
def seen(aws: None) -> Iterator[Seen]:
    client("s3").create_bucket(Bucket="data", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    found = Seen()
    end = crossings.watch(found.see)
    yield found
    end()


def test_objects_are_seen_with_their_names_and_sizes(seen: Seen, tmp_path: Path) -> None:
    blobs, name = S3BlobStore("data"), f"jobs/{KEY}/attempts/1/output/model.onnx"
    blobs.put(name, b"twelve bytes")
    file = tmp_path / "file"
    file.write_bytes(b"x" * 1000)
    blobs.upload(f"checkpoints/{KEY}/blobs/a b", file, sha256=file_sha256(file))
    blobs.get(name, max_bytes=100)
    assert seen.sizes("PutObject") == [12, 1000]
    assert seen.sizes("GetObject") == [0]
    put = [sent for sent in seen if sent.operation == "PutObject"]
    assert [what_is(sent) for sent in put] == ["results", "checkpoints"]
    assert {sent.job_key for sent in put} == {KEY}


def test_each_part_of_a_large_object_is_seen(
    seen: Seen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 11 * 1024 * 1024
    file = tmp_path / "file"
    file.write_bytes(b"x" * size)
    monkeypatch.setattr(multipart, "PART_BYTES", 5 * 1024 * 1024)
    log = f"jobs/{KEY}/attempts/1/output/train.log"
    S3BlobStore("data").upload(log, file, sha256=file_sha256(file))
    whole = seen.sizes("PutObject") + seen.sizes("UploadPart")
    assert sum(whole) == size
    assert {what_is(sent) for sent in seen if sent.size_bytes} == {"script output"}


def test_what_is_refused_never_arrives(seen: Seen) -> None:
    seen.refused = "train.log"
    blobs = S3BlobStore("data")
    with pytest.raises(PolicyViolation, match="held back"):
        blobs.put("train.log", b"secret")
    blobs.put("model.onnx", b"model")
    assert [info.key for info in blobs.keys("")] == ["model.onnx"]


def test_items_and_messages_are_seen(seen: Seen) -> None:
    client("dynamodb").create_table(
        TableName="table",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
    )
    records = DynamoRecords("table")
    records.update(f"JOB#{KEY}", "PROGRESS", {"fencing": 1, "metrics": {"loss": 0.5}})
    curves = {"curves": {"loss": {"seconds": [0.0], "values": [0.5]}}}
    records.update(f"JOB#{KEY}", "CURVES", {"fencing": 1, "metrics": curves})
    records.update(f"JOB#{KEY}", "LEASE", {"fencing": 1, "outcome": None})
    records.update(f"JOB#{KEY}", "LEASE", {"outcome": {"state": "SUCCEEDED", "metrics": {"loss": 0.5}}})
    updates = [sent for sent in seen if sent.operation == "UpdateItem"]
    assert [what_is(sent) for sent in updates] == ["results", "results", "control", "results"]
    assert {sent.job_key for sent in updates} == {KEY}
    assert all(sent.size_bytes == len(sent.body) > 0 for sent in updates)
    url = client("sqs").create_queue(QueueName="rig")["QueueUrl"]
    SqsJobQueue(url).receive(wait_seconds=0)
    received = next(sent for sent in seen if sent.operation == "ReceiveMessage")
    assert (what_is(received), received.job_key) == ("control", "")
