"""Channels that a script reads through pipes: pass after pass, as files arrive, and no byte that is not right."""

from __future__ import annotations

import hashlib
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest

from isthmus.adapters.local.blobs import DirectoryBlobStore
from isthmus.adapters.system import SystemThreads
from isthmus.errors import AttemptLost, DigestMismatch, EnvironmentProblem, MissingFile, Unavailable
from isthmus.ports import GoOn, always
from isthmus.rig import feeder
from isthmus.rig.cache import CachedFile, FileCache
from isthmus.rig.streams import Source, Stream, Streams, in_order

BIG = 3 * feeder.PIPE_BYTES
"""More than a pipe holds."""


class Bucket(DirectoryBlobStore):
    """Counts what is asked of it; while ``error`` is set, it answers with that."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.error: Exception | None = None
        self.asked: list[str] = []

    def save(self, key: str, path: Path, **options: Any) -> None:
        self.asked.append(key)
        if self.error:
            raise self.error
        super().save(key, path, **options)


class Gated:
    """Hands the first files out, and the others only once ``gate`` is open."""

    def __init__(self, source: FileCache, first: int) -> None:
        self.gate = threading.Event()
        self._source, self._first = source, first

    def hand_out(self, files: Sequence[CachedFile], go_on: GoOn = always) -> Generator[Path]:
        for number, path in enumerate(self._source.hand_out(files, go_on)):
            while number >= self._first and not self.gate.wait(0.01):
                go_on()
            yield path


class Rig:
    """A bucket, a cache, and the folder in which a script finds its pipes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bucket = Bucket(folder / "bucket")
        self.data = folder / "data"
        self.data.mkdir()
        self.failed = threading.Event()
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.waited = threading.Event()

    @property
    def cache(self) -> FileCache:
        return FileCache(self.folder / "cache", self.bucket, connections=4)

    def file(self, name: str, data: bytes, promised: bytes | None = None) -> CachedFile:
        digest = hashlib.sha256(data if promised is None else promised).hexdigest()
        self.bucket.put(digest, data)
        return CachedFile(digest, digest, len(data), self.folder / "arrived" / name)

    def stream(self, **files: bytes) -> Stream:
        return Stream(list(files), [self.file(name, data) for name, data in files.items()])

    def report(self, event: str, **fields: Any) -> None:
        self.events.append((event, fields))
        if event == "waiting for a service":
            self.waited.set()

    def streams(self, source: Source | None = None, record_io: bool = False, **channels: Stream) -> Streams:
        return Streams(
            channels,
            self.data,
            source or self.cache,
            SystemThreads(),
            self.report,
            record_io=record_io,
            retry_seconds=0.01,
            on_failure=self.failed.set,
        )

    def read(self, pipe: str, most: int = -1) -> bytes:
        with (self.data / pipe).open("rb") as file:
            return file.read(most)


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def what_comes(pipe: int) -> bytes | None:
    """Return what a pipe that is read without waiting has; None: nothing yet, though it has not ended."""
    os.set_blocking(pipe, False)
    try:
        return os.read(pipe, 2**20)
    except BlockingIOError:
        return None


def test_each_pass_of_each_channel_is_a_pipe_of_its_own(rig: Rig) -> None:
    big = os.urandom(BIG)
    with rig.streams(train=rig.stream(a=b"1,2\n", b=big, c=b""), test=rig.stream(d=b"3,4\n")):
        for number in range(3):
            assert rig.read(f"train_{number}") == b"1,2\n" + big
            assert not (rig.data / f"train_{number}").exists()
            assert (rig.data / f"train_{number + 1}").exists()
        assert rig.read("test_0") == rig.read("test_1") == b"3,4\n"
    assert len(rig.bucket.asked) == 4
    assert not rig.failed.is_set()


def test_two_channels_are_read_at_the_same_time(rig: Rig) -> None:
    with (
        rig.streams(train=rig.stream(a=b"t" * BIG), labels=rig.stream(b=b"l" * BIG)),
        (rig.data / "train_0").open("rb") as train,
        (rig.data / "labels_0").open("rb") as labels,
    ):
        while batch := train.read(BIG // 6):
            assert labels.read(BIG // 6) == b"l" * len(batch)
        assert labels.read() == b""


def test_a_script_that_closes_a_pipe_early_gets_all_of_the_next_pass(rig: Rig) -> None:
    with rig.streams(train=rig.stream(a=b"0" * BIG, b=b"1")):
        assert rig.read("train_0", 10) == b"0" * 10
        assert rig.read("train_1") == b"0" * BIG + b"1"


def test_files_are_handed_on_before_the_last_has_arrived(rig: Rig) -> None:
    source = Gated(rig.cache, first=1)
    with (
        rig.streams(source, train=rig.stream(a=b"first", b=b"second")),
        (rig.data / "train_0").open("rb", buffering=0) as pipe,
    ):
        assert pipe.read(100) == b"first"
        source.gate.set()
        assert pipe.read(100) == b"second"
        assert pipe.read(100) == b""


def test_a_pipe_that_was_closed_while_its_feeder_waited_is_done_with(rig: Rig) -> None:
    source = Gated(rig.cache, first=1)
    with rig.streams(source, train=rig.stream(a=b"first", b=b"second")):
        assert rig.read("train_0", 5) == b"first"
        assert rig.read("train_1", 5) == b"first"


def test_what_is_wrong_is_not_handed_on_and_does_not_end_the_pipe(rig: Rig) -> None:
    wrong = rig.file("b", b"something else", promised=b"what was promised")
    stream = Stream(["a", "b"], [rig.file("a", b"right"), wrong])

    def script() -> None:
        with rig.streams(train=stream):
            pipe = os.open(rig.data / "train_0", os.O_RDONLY)
            assert rig.failed.wait(20)
            if (seen := what_comes(pipe)) is not None:
                assert seen == b"right"
                assert what_comes(pipe) is None
            os.close(pipe)

    with pytest.raises(DigestMismatch, match="was promised"):
        script()


def test_a_file_that_is_not_in_the_bucket_ends_the_attempt(rig: Rig) -> None:
    gone = CachedFile("0" * 64, "0" * 64, 5, rig.folder / "arrived" / "b")
    with pytest.raises(MissingFile), rig.streams(train=Stream(["b"], [gone])):
        assert rig.failed.wait(20)


def test_while_the_network_is_away_the_script_waits_and_then_goes_on(rig: Rig) -> None:
    rig.bucket.error = Unavailable("no route")
    with rig.streams(train=rig.stream(a=b"1")) as streams:
        pipe = os.open(rig.data / "train_0", os.O_RDONLY)
        for _ in range(2):
            rig.waited.clear()
            assert rig.waited.wait(20)
        assert what_comes(pipe) is None
        rig.bucket.error = None
        os.set_blocking(pipe, True)
        assert os.read(pipe, 100) == b"1"
        assert streams.starved() == ""
        os.close(pipe)
    assert not rig.failed.is_set()


def test_why_a_script_had_nothing_to_read_is_said(rig: Rig) -> None:
    rig.bucket.error = Unavailable("no route")
    with rig.streams(train=rig.stream(a=b"1")) as streams:
        pipe = os.open(rig.data / "train_0", os.O_RDONLY)
        while not streams.starved():
            rig.waited.clear()
            assert rig.waited.wait(20)
        assert streams.starved() == "no route"
        os.close(pipe)


def test_the_feeder_ends_with_the_block_whatever_the_script_has_read(rig: Rig) -> None:
    with rig.streams(train=rig.stream(a=b"1" * BIG), test=rig.stream(b=b"2")) as streams:
        pipe = os.open(rig.data / "train_0", os.O_RDONLY)
        assert os.read(pipe, 1) == b"1"
        process_id = streams.process_id
    assert process_id is not None
    assert not Path(f"/proc/{process_id}").exists()
    os.close(pipe)


def test_an_attempt_whose_feeder_was_killed_is_lost(rig: Rig) -> None:
    def script() -> None:
        with rig.streams(train=rig.stream(a=b"1")) as streams:
            assert streams.process_id is not None
            os.kill(streams.process_id, signal.SIGKILL)
            assert rig.failed.wait(20)

    with pytest.raises(AttemptLost, match="exit code -9"):
        script()


def test_the_feeder_does_not_end_by_what_a_service_manager_sends_to_all(rig: Rig) -> None:
    with rig.streams(train=rig.stream(a=b"1")) as streams:
        assert rig.read("train_0") == b"1"
        assert streams.process_id is not None
        os.kill(streams.process_id, signal.SIGTERM)
        assert rig.read("train_1") == b"1"


def test_what_a_script_raises_is_not_hidden(rig: Rig) -> None:
    with pytest.raises(EnvironmentProblem, match="no disk"), rig.streams(train=rig.stream(a=b"1")):
        raise EnvironmentProblem("no disk")


def test_a_second_job_asks_the_bucket_for_nothing(rig: Rig) -> None:
    for job in range(2):
        with rig.streams(train=rig.stream(a=b"1", b=b"2")):
            assert rig.read("train_0") == b"12"
        (rig.data / "train_1").unlink()
        assert len(rig.bucket.asked) == 2, job


def test_a_cached_file_that_was_written_to_is_fetched_again(rig: Rig) -> None:
    stream = rig.stream(a=b"right")
    with rig.streams(train=stream):
        assert rig.read("train_0") == b"right"
    (rig.data / "train_1").unlink()
    os.chmod(stream.files[0].target, 0o644)
    stream.files[0].target.write_bytes(b"wrong")
    with rig.streams(train=stream):
        assert rig.read("train_0") == b"right"


def found(path: Path) -> tuple[Path, feeder.FileFacts]:
    return path, feeder.facts_of(path.stat())


def test_files_in_place_are_read_where_they_lie(rig: Rig) -> None:
    own = rig.folder / "scan"
    own.write_bytes(b"scan")
    with rig.streams(train=Stream(["scan"], there=[found(own)])):
        assert rig.read("train_0") + rig.read("train_1") == b"scanscan"
    assert rig.bucket.asked == []


def test_a_file_in_place_that_was_changed_since_is_not_handed_on(rig: Rig) -> None:
    own = rig.folder / "scan"
    own.write_bytes(b"scan")
    there = found(own)
    own.write_bytes(b"another")

    def script() -> None:
        with rig.streams(train=Stream(["train/scan"], there=[there])):
            pipe = os.open(rig.data / "train_0", os.O_RDONLY)
            assert rig.failed.wait(20)
            assert what_comes(pipe) is None
            os.close(pipe)

    with pytest.raises(DigestMismatch, match=r"^train/scan cannot .* changed since"):
        script()


DIES = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_streams import Gated, Rig
rig = Rig(Path(sys.argv[1]))
with rig.streams(Gated(rig.cache, first=1), train=rig.stream(a=b"1111", b=b"2222")) as streams:
    print(streams.process_id, flush=True)
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_when_the_agent_dies_a_pipe_ends_no_sooner_than_its_reader(tmp_path: Path) -> None:
    command = [sys.executable, "-c", DIES, str(tmp_path), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as agent:
        assert agent.stdout is not None
        assert agent.stdin is not None
        handle = os.pidfd_open(int(agent.stdout.readline()))
        pipe = os.open(tmp_path / "data" / "train_0", os.O_RDONLY)
        assert os.read(pipe, 4) == b"1111"
        agent.stdin.close()
        agent.wait(20)
    # What has not come is not the end of the data: the script is about to be killed.
    assert not select.select([handle], [], [], 0.3)[0]
    assert what_comes(pipe) is None
    os.close(pipe)
    assert select.select([handle], [], [], 20)[0]
    os.close(handle)


def entries(name: str, count: int) -> list[CachedFile]:
    return [CachedFile(f"{name}{number}", f"{name}{number}", 1, Path(name)) for number in range(count)]


@pytest.mark.parametrize(
    ("opened", "order"),
    [
        ("", "a0 a1 b0 a2 a3 b1"),
        ("a", "a0 a1 a2 a3 b0 b1"),
        ("b", "b0 b1 a0 a1 a2 a3"),
        ("ab", "a0 a1 b0 a2 a3 b1"),
        ("c", "a0 a1 b0 a2 a3 b1"),
    ],
)
def test_what_a_script_reads_is_fetched_first_in_equal_shares(opened: str, order: str) -> None:
    left = {"a": entries("a", 4), "b": entries("b", 2), "c": ()}
    assert [file.key for _, file in in_order(left, frozenset(opened))] == order.split()
