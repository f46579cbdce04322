"""What leaves a rig: counted, put on record, and held back where no rule lets it go."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from isthmus import documents
from isthmus.adapters.local.blobs import DirectoryBlobStore
from isthmus.adapters.local.queue import ManualClock
from isthmus.adapters.local.records import MemoryRecords
from isthmus.errors import MissingFile, PolicyViolation, Unavailable
from isthmus.model import layout
from isthmus.model.blob import BlobRef
from isthmus.model.crossing import Crossings, Sent
from isthmus.model.dataset import DatasetFile, InPlace, Manifest
from isthmus.model.policy import DataPolicy
from isthmus.ports import Item
from isthmus.rig.crossings import Border
from isthmus.workflows.audit_crossings import Crossed, audit_crossings

KEY = "ab" * 20
OUTPUT = f"/data/jobs/{KEY}/attempts/3/output/"
CLOUD = "aws:eu-west-1"
PINNED = DataPolicy(zones=("onprem-*",))
METRICS = b'{"ExpressionAttributeValues": {":v0": {"M": {"metrics": {"M": {"loss": {"N": "0.1"}}}}}}}'


class Cut(MemoryRecords):
    """A table that may be away."""

    away = False
    puts = 0

    def put(self, item: Item) -> None:
        self.puts += 1
        if self.away:
            raise Unavailable("the table is away")
        super().put(item)


class World:
    def __init__(self, folder: Path, policy: DataPolicy) -> None:
        self.records, self.clock = Cut(), ManualClock()
        self.blobs = DirectoryBlobStore(folder / "bucket")
        digest = "0" * 64
        file = DatasetFile(path="train/x.npy", sha256=digest, size_bytes=3)
        job = BlobRef(key="j", sha256=digest, size_bytes=1)
        manifest = Manifest(dataset="wards", files=(file,), job=job)
        self.blobs.put(layout.registered_manifest(KEY), documents.encode(manifest))
        self.set(policy)
        self.folder, self.job, self.said = folder, KEY, []  # type: ignore[var-annotated]
        self.border = Border(
            "gpu-1",
            "onprem-a",
            CLOUD,
            folder=folder,
            records=self.records,
            blobs=self.blobs,
            clock=self.clock,
            report=lambda event, **fields: self.said.append(event),
            doing=lambda: self.job,
        )

    def set(self, policy: DataPolicy) -> None:
        plain = json.loads(documents.encode(policy))
        self.records.put({"pk": layout.dataset_pk("wards"), "sk": layout.POLICY, "policy": plain})

    def audit(self, *, minutes: bool = False) -> list[Crossed]:
        return audit_crossings(KEY, self.records, minutes=minutes)

    def file(self) -> list[Crossings]:
        lines = [
            line for path in (self.folder / "crossings").iterdir() for line in path.read_bytes().splitlines()
        ]
        return [documents.decode(Crossings, line, "a line") for line in lines]


@pytest.fixture
def pinned(tmp_path: Path) -> World:
    return World(tmp_path, PINNED)


def s3(name: str, size: int = 10) -> Sent:
    return Sent("s3", "PutObject", name, size)


ALLOWED_OF_PINNED = [
    (s3(OUTPUT + "model.onnx"), "results", "results may leave"),
    (s3(OUTPUT + "judgement.json"), "results", "results may leave"),
    (s3(OUTPUT + "curves.json"), "results", "results may leave"),
    (Sent("dynamodb", "UpdateItem", "", len(METRICS), METRICS), "results", "results may leave"),
    (Sent("dynamodb", "UpdateItem", "", 14, b'{"metrics": 1}'), "control", "every job needs it"),
    (Sent("sfn", "SendTaskHeartbeat", "", 30, b"{}"), "control", "every job needs it"),
    (Sent("s3", "GetObject", f"/data/datasets/wards/{KEY}", 0), "control", "every job needs it"),
    (s3("/data/probes/gpu-1"), "control", "every job needs it"),
]
HELD_OF_PINNED = [
    (s3(OUTPUT + "train.log"), "script output"),
    (s3(OUTPUT + "failure"), "script output"),
    (s3(OUTPUT + "data/model.onnx"), "script output"),
    (s3(OUTPUT + "data/train.ipynb"), "script output"),
    (s3(f"/data/checkpoints/{KEY}/blobs/00"), "checkpoints"),
    (s3(f"/data/jobs/{KEY}/notes"), "unknown"),
    (s3("/data/datasets/wards/blobs/00"), "unknown"),
    (Sent("kinesis", "PutRecord", "", 4, b"rows"), "unknown"),
]


@pytest.mark.parametrize(("sent", "what", "rule"), ALLOWED_OF_PINNED)
def test_what_may_leave_is_counted_by_its_rule(pinned: World, sent: Sent, what: str, rule: str) -> None:
    pinned.border.passes(sent)
    pinned.border.tell(everything=True)
    (row,) = pinned.audit()
    assert (row.what, row.rule, row.size_bytes, row.requests) == (what, rule, sent.size_bytes, 1)
    assert (row.rig, row.from_zone, row.to_zone, row.refused) == ("gpu-1", "onprem-a", CLOUD, 0)


@pytest.mark.parametrize(("sent", "what"), HELD_OF_PINNED)
def test_what_may_not_leave_is_held_back_and_that_is_on_record(pinned: World, sent: Sent, what: str) -> None:
    with pytest.raises(
        PolicyViolation, match=f"{what} go from onprem-a to {CLOUD}.*onprem-\\* and results leave"
    ):
        pinned.border.passes(sent)
    pinned.border.tell(everything=True)
    (row,) = pinned.audit()
    assert (row.what, row.size_bytes, row.requests, row.refused) == (what, 0, 0, 1)


@pytest.mark.parametrize(
    ("policy", "rule"),
    [
        (DataPolicy(zones=("onprem-*", CLOUD)), f"raw data may lie in {CLOUD}"),
        (DataPolicy(zones=("onprem-*",), may_leave="everything"), "everything may leave"),
    ],
)
def test_a_laxer_policy_lets_all_of_a_job_s_output_go(tmp_path: Path, policy: DataPolicy, rule: str) -> None:
    world = World(tmp_path, policy)
    for sent, _ in HELD_OF_PINNED:
        world.border.passes(sent)
    world.border.tell(everything=True)
    assert {row.rule for row in world.audit()} == {rule}


def test_where_nothing_may_leave_not_even_a_model_does(tmp_path: Path) -> None:
    world = World(tmp_path, DataPolicy(zones=("onprem-*",), may_leave="nothing"))
    with pytest.raises(PolicyViolation, match="results go from"):
        world.border.passes(s3(OUTPUT + "model.onnx"))


def test_what_is_of_no_job_is_held_back_unless_it_is_control(pinned: World) -> None:
    pinned.job = ""
    pinned.border.passes(Sent("sqs", "ReceiveMessage", "", 20, b"{}"))
    with pytest.raises(PolicyViolation, match="no zone and nothing leave"):
        pinned.border.passes(s3("/data/handover/1"))


def test_a_changed_policy_is_heard_of_within_a_minute(pinned: World) -> None:
    pinned.set(DataPolicy())
    pinned.border.passes(s3(OUTPUT + "train.log"))
    pinned.set(PINNED)
    pinned.clock.sleep(61)
    with pytest.raises(PolicyViolation):
        pinned.border.passes(s3(OUTPUT + "train.log"))


def test_each_minute_is_told_once_it_is_over_and_the_sums_are_of_all(pinned: World) -> None:
    start = pinned.clock.now() % 60
    pinned.clock.sleep(60 - start)
    for size in (10, 20):
        pinned.border.passes(s3(OUTPUT + "model.onnx", size))
    pinned.border.tell()
    with pytest.raises(MissingFile, match="isthmus pipeline list"):
        pinned.audit()
    pinned.clock.sleep(60)
    pinned.border.passes(s3(OUTPUT + "model.onnx", 5))
    pinned.border.tell()
    assert [row.size_bytes for row in pinned.audit(minutes=True)] == [30]
    pinned.job = ""
    pinned.border.tell()
    assert [row.size_bytes for row in pinned.audit(minutes=True)] == [30, 5], "the job is over"
    (total,) = pinned.audit()
    assert (total.size_bytes, total.requests) == (35, 3)
    assert total.since == pinned.audit(minutes=True)[0].since


def test_what_comes_late_in_a_minute_that_was_told_is_added(pinned: World) -> None:
    for _ in range(2):
        pinned.job = KEY
        pinned.border.passes(s3(OUTPUT + "model.onnx"))
        pinned.job = ""
        pinned.border.tell()
    assert pinned.audit()[0].size_bytes == 20


def test_without_the_table_the_rig_keeps_its_own_record(pinned: World) -> None:
    pinned.border.passes(s3(OUTPUT + "model.onnx"))
    pinned.records.away = True
    pinned.border.tell(everything=True)
    (entry,) = pinned.file()
    assert (entry.job_key, entry.rows[0].size_bytes) == (KEY, 10)
    assert pinned.said == ["crossings are on record here alone"]


def test_whatever_the_table_says_the_rig_has_its_record(pinned: World) -> None:
    def broken(item: Item) -> None:
        raise RuntimeError("the table is gone")

    pinned.records.put = broken  # type: ignore[method-assign]
    pinned.border.passes(s3(OUTPUT + "model.onnx"))
    pinned.border.tell(everything=True)
    assert pinned.file()[0].rows[0].size_bytes == 10
    assert pinned.said == ["crossings are on record here alone"]


def test_what_is_longer_than_is_known_is_no_control(pinned: World) -> None:
    with pytest.raises(PolicyViolation, match="script output go from"):
        pinned.border.passes(s3(OUTPUT + "train.log", -1))


def test_of_files_that_stay_nothing_is_told_once_their_policy_is_gone(pinned: World) -> None:
    manifest = documents.decode(
        Manifest, pinned.blobs.get(layout.registered_manifest(KEY), max_bytes=10_000), "it"
    )
    stays = structs.replace(manifest, in_place=InPlace(zone="onprem-a", root="clinic"))
    pinned.blobs.put(layout.registered_manifest(KEY), documents.encode(stays))
    pinned.records.delete(layout.dataset_pk("wards"), layout.POLICY)
    with pytest.raises(PolicyViolation, match="no zone and nothing leave"):
        pinned.border.passes(s3(OUTPUT + "model.onnx"))


def test_an_idle_agent_writes_nothing_to_the_table(pinned: World) -> None:
    pinned.job, before = "", pinned.records.puts
    pinned.border.passes(Sent("sqs", "ReceiveMessage", "", 20, b"{}"))
    pinned.border.tell(everything=True)
    with pytest.raises(MissingFile):
        pinned.audit()
    assert pinned.records.puts == before
    assert pinned.file()[0].job_key == ""


def counting(world: World) -> None:
    """Let what the border tells pass it, as the real table's requests do."""
    put = world.records.put

    def counted(item: dict[str, Any]) -> None:
        world.border.passes(Sent("dynamodb", "PutItem", "", 100, json.dumps(item["crossings"]).encode()))
        put(item)

    world.records.put = counted  # type: ignore[method-assign]


def test_what_is_told_of_a_job_that_is_over_needs_no_telling_itself(pinned: World) -> None:
    counting(pinned)
    pinned.border.passes(s3(OUTPUT + "model.onnx"))
    pinned.job, before = "", pinned.records.puts
    for _ in range(30):
        pinned.border.tell()
        pinned.clock.sleep(1)
    assert pinned.records.puts == before + 1


def test_telling_is_itself_counted(pinned: World) -> None:
    counting(pinned)
    pinned.border.passes(s3(OUTPUT + "model.onnx"))
    pinned.border.tell(everything=True)
    assert sum(row.size_bytes for entry in pinned.file() for row in entry.rows) == 110
