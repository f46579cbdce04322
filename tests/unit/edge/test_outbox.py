"""The outbox of a device: nothing that was put is lost, nothing counts twice, and it never grows over its limit."""

from __future__ import annotations

import gzip
import sqlite3
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.adapters.local.blobs import DirectoryBlobStore
from isthmus.adapters.local.records import MemoryRecords
from isthmus.edge.drain import drain
from isthmus.edge.outbox import Drop, Outbox
from isthmus.errors import (
    EnvironmentProblem,
    InvalidAnswer,
    InvalidDocument,
    InvalidInput,
    IsthmusError,
    PayloadTooLarge,
    Unavailable,
)
from isthmus.model.results import MAX_RESULT_BYTES, Batch, Result
from isthmus.workflows.ingest_results import ingest_results


def result(number: int, *, priority: int = 0, outputs: bytes | None = None) -> Result:
    said = msgspec.json.encode({"label": number}) if outputs is None else outputs
    return Result(
        model="digits", release=3, at_ms=1000 + number, outputs=msgspec.Raw(said), priority=priority
    )


class Cloud:
    """The ingest behind a line that may lose a request, or its answer. ``line`` says which, call by call."""

    def __init__(self, folder: Path, line: list[str] | None = None) -> None:
        self.blobs, self.records = DirectoryBlobStore(folder / "cloud"), MemoryRecords()
        self.line = line or []

    def send(self, batch: Batch) -> int:
        how = self.line.pop(0) if self.line else ""
        if how == "request":
            raise Unavailable("no route")
        last = ingest_results(
            msgspec.json.encode(batch), batch.device, blobs=self.blobs, records=self.records
        )
        if how == "answer":
            raise Unavailable("no route")
        return last

    def labels(self) -> list[int]:
        """What arrived, in the order of the objects' names."""
        names = sorted(info.key for info in self.blobs.keys("results/"))
        lines = b"".join(
            gzip.decompress(self.blobs.get(name, max_bytes=1 << 24)) for name in names
        ).splitlines()
        return [msgspec.json.decode(line)["outputs"]["label"] for line in lines]


def empty(outbox: Outbox, cloud: Cloud, *, max_bytes: int = 10_000) -> None:
    """Drain it, however often the line breaks."""
    for _ in range(100):
        try:
            drain(outbox, cloud, max_bytes=max_bytes)
            return
        except Unavailable:
            continue
    raise AssertionError("it was never drained")


def test_what_was_put_is_there_after_the_process(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, "gate-1")
    outbox.put([result(1), result(2)])
    outbox.close()
    later = Outbox(tmp_path, "gate-1")
    batch = later.batch()
    assert batch is not None
    assert [entry.sequence for entry in batch.results] == [1, 2]
    assert batch.results[1].result == result(2)


@given(
    st.lists(st.sampled_from(["", "request", "answer"]), max_size=12),
    st.lists(st.integers(1, 20), min_size=1, max_size=6),
    st.integers(200, 3000),
)
@settings(max_examples=15, deadline=None)
def test_each_result_arrives_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, line: list[str], groups: list[int], max_bytes: int
) -> None:
    folder = tmp_path_factory.mktemp("outbox")
    outbox, cloud = Outbox(folder, "gate-1"), Cloud(folder, line)
    number = 0
    for size in groups:
        outbox.put([result(number + at) for at in range(size)])
        number += size
        try:
            drain(outbox, cloud, max_bytes=max_bytes)
        except Unavailable:
            continue
    empty(outbox, cloud, max_bytes=max_bytes)
    outbox.close()
    assert cloud.labels() == list(range(number))


def test_a_batch_that_changed_between_two_tries_counts_once(tmp_path: Path) -> None:
    """The answer was lost, the outbox filled up and dropped what had arrived already."""
    outbox = Outbox(tmp_path, "gate-1", limit_bytes=1500)
    cloud = Cloud(tmp_path, ["answer"])
    outbox.put([result(number) for number in range(8)])
    with pytest.raises(Unavailable):
        drain(outbox, cloud)
    assert outbox.put([result(number) for number in range(8, 12)]) > 0
    empty(outbox, cloud)
    assert cloud.labels() == list(range(12))


PUTS = """
import sys
from pathlib import Path
import msgspec
from isthmus.edge.outbox import Outbox
from isthmus.model.results import Result
outbox, number = Outbox(Path(sys.argv[1]), "gate-1"), 0
while True:
    outbox.put([Result(model="digits", release=3, at_ms=0, outputs=msgspec.Raw(b'{"label":%d}' % number))])
    number += 1
    print(number, flush=True)
"""


def test_a_killed_process_loses_nothing_that_it_was_told_is_kept(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PUTS, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for _ in range(25):
            process.stdout.readline()
        process.kill()
        kept = 25 + sum(line.endswith("\n") for line in process.stdout)
    outbox, cloud = Outbox(tmp_path, "gate-1"), Cloud(tmp_path)
    held = outbox.state().held
    assert kept <= held <= kept + 1
    empty(outbox, cloud)
    assert cloud.labels() == list(range(held))


@pytest.mark.parametrize(("drop", "left"), [("oldest", [4, 5, 6, 7]), ("priority", [1, 3, 5, 7])])
def test_a_full_outbox_drops_what_its_policy_says(tmp_path: Path, drop: Drop, left: list[int]) -> None:
    one = Outbox(tmp_path / "one", "gate-1")
    one.put([result(1, priority=1)])
    room = 4 * one.state().used_bytes
    outbox = Outbox(tmp_path, "gate-1", limit_bytes=room, drop=drop)
    dropped = sum(outbox.put([result(number, priority=number % 2)]) for number in range(8))
    state, cloud = outbox.state(), Cloud(tmp_path)
    assert (dropped, state.dropped, state.held) == (4, 4, 4)
    assert state.used_bytes <= room
    empty(outbox, cloud)
    assert cloud.labels() == left


def test_what_is_of_less_priority_than_all_that_waits_goes_itself(tmp_path: Path) -> None:
    outbox, cloud = Outbox(tmp_path, "gate-1"), Cloud(tmp_path)
    outbox.put([result(number, priority=5) for number in range(4)])
    full = Outbox(tmp_path, "gate-1", limit_bytes=outbox.state().used_bytes, drop="priority")
    assert full.put([result(9, priority=1)]) == 1
    empty(full, cloud)
    assert cloud.labels() == [0, 1, 2, 3]


def test_a_number_is_never_given_again(tmp_path: Path) -> None:
    outbox, cloud = Outbox(tmp_path, "gate-1"), Cloud(tmp_path)
    outbox.put([result(0)])
    empty(outbox, cloud)
    assert outbox.state().held == 0
    outbox.close()
    again = Outbox(tmp_path, "gate-1")
    again.put([result(1)])
    empty(again, cloud)
    assert cloud.labels() == [0, 1]


def test_an_outbox_on_a_new_disk_is_another(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path)
    for disk in ("old", "new"):
        outbox = Outbox(tmp_path / disk, "gate-1")
        outbox.put([result(7)])
        empty(outbox, cloud)
    assert cloud.labels() == [7, 7]


@pytest.mark.parametrize(
    ("bad", "error", "says"),
    [
        (result(1, outputs=b"[" + b"0," * MAX_RESULT_BYTES + b"0]"), PayloadTooLarge, "at most 16.0 KiB"),
        (result(1, outputs=b"{"), InvalidInput, "must be JSON"),
        (msgspec.structs.replace(result(1), model="a b"), InvalidDocument, "model"),
    ],
)
def test_a_bad_result_is_refused_and_the_others_of_its_group_with_it(
    tmp_path: Path, bad: Result, error: type[IsthmusError], says: str
) -> None:
    outbox = Outbox(tmp_path, "gate-1")
    with pytest.raises(error, match=says):
        outbox.put([result(0), bad])
    assert outbox.state().held == 0


def test_more_than_the_outbox_holds_is_refused_and_drops_nothing(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, "gate-1", limit_bytes=400)
    outbox.put([result(0)])
    with pytest.raises(PayloadTooLarge, match="larger limit"):
        outbox.put([result(number) for number in range(20)])
    assert outbox.state().held == 1


def test_a_cloud_that_confirms_too_little_loses_nothing(tmp_path: Path) -> None:
    class Confused(Cloud):
        def send(self, batch: Batch) -> int:
            return batch.last - 1

    outbox = Outbox(tmp_path, "gate-1")
    outbox.put([result(0)])
    with pytest.raises(InvalidAnswer, match="must confirm result 1"):
        drain(outbox, Confused(tmp_path))
    assert outbox.state().held == 1


def test_a_damaged_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "outbox.db").write_bytes(b"no database" * 100)
    with pytest.raises(EnvironmentProblem, match="move the file away"):
        Outbox(tmp_path, "gate-1").put([result(0)])


def test_a_newer_file_is_left_alone(tmp_path: Path) -> None:
    Outbox(tmp_path, "gate-1").put([result(0)])
    with sqlite3.connect(tmp_path / "outbox.db") as file:
        file.execute("PRAGMA user_version = 99")
    file.close()
    with pytest.raises(EnvironmentProblem, match="newer isthmus"):
        Outbox(tmp_path, "gate-1").put([result(0)])


def test_a_batch_is_of_who_sent_it(tmp_path: Path) -> None:
    outbox, cloud = Outbox(tmp_path, "gate-1"), Cloud(tmp_path)
    outbox.put([result(0)])
    batch = outbox.batch()
    assert batch is not None
    with pytest.raises(InvalidInput, match="gate-2, who sent it"):
        ingest_results(msgspec.json.encode(batch), "gate-2", blobs=cloud.blobs, records=cloud.records)
    back = msgspec.structs.replace(batch, results=[*batch.results, *batch.results])
    with pytest.raises(InvalidInput, match="must rise"):
        ingest_results(msgspec.json.encode(back), "gate-1", blobs=cloud.blobs, records=cloud.records)
    assert cloud.labels() == []
