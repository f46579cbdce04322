from __future__ import annotations

import errno
import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from isthmus.adapters.local.blobs import DirectoryBlobStore
from isthmus.errors import AttemptLost, DigestMismatch, MissingFile, Unavailable
from isthmus.sync.download import download
from isthmus.sync.transfer import Transfer, Wanted

RANGE = 1000


class CountedBlobs(DirectoryBlobStore):
    """Counts the bytes that were read, and breaks a stream after so many of them."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.read = 0
        self.most: int | None = None
        self.asked: list[tuple[str, int]] = []
        self.error: Exception = Unavailable("no route")
        self._lock = threading.Lock()

    def pieces(
        self, key: str, *, start: int = 0, stop: int | None = None, version: str = ""
    ) -> Iterator[bytes]:
        self.asked.append((key, start))
        for piece in super().pieces(key, start=start, stop=stop, version=version):
            with self._lock:
                self.read += len(piece)
                if self.most is not None and self.read > self.most:
                    raise self.error
            yield piece


@pytest.fixture
def blobs(tmp_path: Path) -> CountedBlobs:
    return CountedBlobs(tmp_path / "bucket")


def put(blobs: CountedBlobs, folder: Path, name: str, size: int, seed: int = 0) -> Wanted:
    """Store bytes that differ from range to range; return how they are asked for."""
    data = b"".join(hashlib.sha256(f"{name} {seed} {n}".encode()).digest() for n in range(size // 32 + 1))[
        :size
    ]
    blobs.put(name, data)
    return Wanted(name, hashlib.sha256(data).hexdigest(), folder / name, size)


def fetch(wanted: list[Wanted], blobs: CountedBlobs, connections: int) -> list[str]:
    return [file.key for file in download(wanted, blobs, connections=connections, range_bytes=RANGE)]


@pytest.mark.parametrize("connections", [1, 3, 16])
def test_files_arrive_in_order_whole_and_read_only(
    connections: int, blobs: CountedBlobs, tmp_path: Path
) -> None:
    sizes = [10, 5 * RANGE + 1, 0, RANGE, 3 * RANGE, *range(90)]
    wanted = [put(blobs, tmp_path / "out", f"f{n}", size) for n, size in enumerate(sizes)]
    assert fetch(wanted, blobs, connections) == [file.key for file in wanted]
    for file in wanted:
        assert hashlib.sha256(file.path.read_bytes()).hexdigest() == file.sha256
        assert file.path.stat().st_mode & 0o777 == 0o444
    assert len(list((tmp_path / "out").iterdir())) == len(wanted), "nothing half-written is left"
    assert blobs.read == sum(sizes)


def test_what_is_there_is_not_fetched(blobs: CountedBlobs, tmp_path: Path) -> None:
    wanted = [put(blobs, tmp_path, "a", 4 * RANGE), put(blobs, tmp_path, "b", 3)]
    fetch(wanted, blobs, 4)
    assert fetch(wanted, blobs, 4) == ["a", "b"]
    assert blobs.read == 4 * RANGE + 3


@pytest.mark.parametrize("connections", [1, 4])
def test_a_download_that_was_cut_off_goes_on_with_the_ranges_that_it_lacks(
    connections: int, blobs: CountedBlobs, tmp_path: Path
) -> None:
    wanted = put(blobs, tmp_path, "big", 20 * RANGE)
    blobs.most = 12 * RANGE
    with pytest.raises(Unavailable):
        fetch([wanted], blobs, connections)
    noted = len((tmp_path / "big.part.notes").read_text().split("\n")) - 2
    assert noted >= 12 - connections
    blobs.most, blobs.read = None, 0
    assert fetch([wanted], blobs, connections) == ["big"]
    assert blobs.read == (20 - noted) * RANGE


def test_ranges_of_two_versions_are_never_mixed(blobs: CountedBlobs, tmp_path: Path) -> None:
    wanted = put(blobs, tmp_path, "big", 4 * RANGE)
    blobs.most = 2 * RANGE
    with pytest.raises(Unavailable):
        fetch([wanted], blobs, 1)
    blobs.most, blobs.read = None, 0
    put(blobs, tmp_path, "big", 4 * RANGE)  # the same bytes, uploaded again: another version
    assert fetch([wanted], blobs, 1) == ["big"]
    assert blobs.read == 4 * RANGE


def test_an_object_that_is_replaced_meanwhile_is_begun_again(blobs: CountedBlobs, tmp_path: Path) -> None:
    wanted = put(blobs, tmp_path, "big", 4 * RANGE)
    transfer = Transfer(wanted, blobs, RANGE)
    first, *others = transfer.begin()
    first()
    put(blobs, tmp_path, "big", 4 * RANGE, seed=1)
    with pytest.raises(Unavailable, match="replaced"):
        others[0]()
    transfer.close()
    with pytest.raises(DigestMismatch, match="was promised"):
        fetch([wanted], blobs, 1)


def test_notes_that_are_wrong_after_a_power_cut_cost_a_new_start(blobs: CountedBlobs, tmp_path: Path) -> None:
    wanted = put(blobs, tmp_path, "big", 4 * RANGE)
    blobs.most = 2 * RANGE
    with pytest.raises(Unavailable):
        fetch([wanted], blobs, 1)
    with (tmp_path / "big.part").open("r+b") as part:
        part.write(bytes(RANGE))
    blobs.most = None
    assert fetch([wanted], blobs, 1) == ["big"]
    assert hashlib.sha256(wanted.path.read_bytes()).hexdigest() == wanted.sha256


@pytest.mark.parametrize("torn", ["", "nonsense", "{}\n0\n", '{"version": "x"}'])
def test_notes_that_cannot_be_read_are_begun_anew(torn: str, blobs: CountedBlobs, tmp_path: Path) -> None:
    wanted = put(blobs, tmp_path, "big", 2 * RANGE)
    (tmp_path / "big.part.notes").write_text(torn)
    assert fetch([wanted], blobs, 2) == ["big"]
    assert blobs.read == 2 * RANGE


def test_a_note_that_was_cut_off_does_not_count(blobs: CountedBlobs, tmp_path: Path) -> None:
    wanted = put(blobs, tmp_path, "big", 20 * RANGE)
    blobs.most = 15 * RANGE
    with pytest.raises(Unavailable):
        fetch([wanted], blobs, 1)
    notes = tmp_path / "big.part.notes"
    notes.write_text(notes.read_text() + "1")  # of "19"
    blobs.most, blobs.read = None, 0
    assert fetch([wanted], blobs, 1) == ["big"]
    assert blobs.read == 5 * RANGE


@pytest.mark.parametrize("connections", [1, 4])
@pytest.mark.parametrize("size", [10, 3 * RANGE])
def test_bytes_other_than_promised_are_refused(
    connections: int, size: int, blobs: CountedBlobs, tmp_path: Path
) -> None:
    wanted = put(blobs, tmp_path / "out", "a", size)
    wrong = Wanted("a", "0" * 64, wanted.path, size)
    with pytest.raises(DigestMismatch, match="was promised"):
        fetch([wrong], blobs, connections)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("connections", [1, 4])
@pytest.mark.parametrize("size", [10, 3 * RANGE])
def test_what_is_not_in_the_bucket_is_missing(
    connections: int, size: int, blobs: CountedBlobs, tmp_path: Path
) -> None:
    there = put(blobs, tmp_path, "a", 10)
    with pytest.raises(MissingFile, match="gone"):
        fetch([there, Wanted("gone", "0" * 64, tmp_path / "gone", size)], blobs, connections)
    assert there.path.is_file()


def test_a_size_other_than_promised_is_refused_before_its_bytes_are_read(
    blobs: CountedBlobs, tmp_path: Path
) -> None:
    wanted = put(blobs, tmp_path, "a", 5 * RANGE)
    with pytest.raises(DigestMismatch, match="5000 bytes, but 4000"):
        fetch([Wanted("a", wanted.sha256, wanted.path, 4 * RANGE)], blobs, 1)
    assert blobs.read == 0


def test_a_disk_that_is_full_says_so(blobs: CountedBlobs, tmp_path: Path) -> None:
    wanted = put(blobs, tmp_path, "a", 5 * RANGE)
    blobs.most, blobs.error = RANGE, OSError(errno.ENOSPC, "no space")
    with pytest.raises(OSError, match="no space"):
        fetch([wanted], blobs, 3)


def test_a_reader_that_leaves_early_ends_the_threads(blobs: CountedBlobs, tmp_path: Path) -> None:
    wanted = [put(blobs, tmp_path, f"f{n}", 10) for n in range(500)]
    before = threading.active_count()
    arrivals = download(wanted, blobs, connections=4)
    assert next(arrivals).key == "f0"
    arrivals.close()
    assert threading.active_count() == before
    assert len(blobs.asked) < 200, "no more is fetched than lies ahead"


def test_two_who_want_the_same_files_in_another_order_fetch_each_once(
    blobs: CountedBlobs, tmp_path: Path
) -> None:
    wanted = [put(blobs, tmp_path, f"f{n}", 5 * RANGE) for n in range(12)]
    got: list[list[str]] = []
    threads = [
        threading.Thread(target=lambda files: got.append(fetch(files, blobs, 3)), args=(files,))
        for files in (wanted, wanted[::-1])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(len, got)) == [12, 12]
    assert blobs.read == 12 * 5 * RANGE


@pytest.mark.parametrize("connections", [1, 3])
def test_a_stop_is_heard_within_a_file_and_what_came_is_kept(
    connections: int, blobs: CountedBlobs, tmp_path: Path
) -> None:
    wanted = [put(blobs, tmp_path / "out", "large", 40 * RANGE)]

    def go_on() -> None:
        if blobs.read >= 5 * RANGE:
            raise AttemptLost("the rig was stopped")

    with pytest.raises(AttemptLost):
        list(download(wanted, blobs, connections=connections, range_bytes=RANGE, go_on=go_on))
    assert 5 * RANGE <= blobs.read <= (5 + connections) * RANGE
    before, blobs.read = blobs.read, 0
    assert fetch(wanted, blobs, connections) == ["large"]
    assert blobs.read <= 40 * RANGE - (before - connections * RANGE)


def test_a_stop_is_heard_within_one_request(blobs: CountedBlobs, tmp_path: Path) -> None:
    wanted = [put(blobs, tmp_path / "out", "one", 2**20)]

    def go_on() -> None:
        if blobs.read:
            raise AttemptLost("the rig was stopped")

    with pytest.raises(AttemptLost):
        list(download(wanted, blobs, connections=1, go_on=go_on))
    assert blobs.read == 2**18
