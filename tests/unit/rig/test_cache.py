from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from isthmus.adapters.local.blobs import DirectoryBlobStore
from isthmus.errors import DigestMismatch, EnvironmentProblem, Unavailable
from isthmus.rig.cache import CachedFile, FileCache
from isthmus.rig.shelf import MARKER, Shelf

KIB = 1024
FILE = 8 * KIB
DAY_NS = 86_400 * 10**9


class Bucket(DirectoryBlobStore):
    """Counts the bytes that leave it; fails once so many did."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.sent = 0
        self.most: int | None = None
        self.error: Exception = Unavailable("no route")
        self._lock = threading.Lock()

    def pieces(
        self, key: str, *, start: int = 0, stop: int | None = None, version: str = ""
    ) -> Iterator[bytes]:
        for piece in super().pieces(key, start=start, stop=stop, version=version):
            with self._lock:
                self.sent += len(piece)
                if self.most is not None and self.sent > self.most:
                    raise self.error
            yield piece


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    return Bucket(tmp_path / "bucket")


def dataset(bucket: Bucket, job: Path, names: str, size: int = FILE) -> list[CachedFile]:
    """Store a file for each letter; return how an attempt in ``job`` asks for them."""
    files = []
    for name in names:
        data = name.encode() * size
        digest = hashlib.sha256(data).hexdigest()
        bucket.put(digest, data)
        files.append(CachedFile(digest, digest, size, job / "train" / name))
    return files


def cache_of(
    tmp_path: Path, bucket: Bucket, limit_files: float | None = None, connections: int = 4
) -> FileCache:
    limit = None if limit_files is None else int(limit_files * FILE)
    return FileCache(tmp_path / "cache", bucket, limit_bytes=limit, spare_bytes=0, connections=connections)


def names_in(tmp_path: Path) -> str:
    """The letters whose files are in the cache."""
    return "".join(sorted(path.read_bytes()[:1].decode() for path in (tmp_path / "cache").glob("??/*")))


def run_job(cache: FileCache, files: list[CachedFile]) -> None:
    """Place files as an attempt does, and leave as it does."""
    cache.place_all(files)
    for file in files:
        file.target.unlink()


@pytest.mark.parametrize("connections", [1, 4])
def test_a_second_job_moves_no_bytes(connections: int, bucket: Bucket, tmp_path: Path) -> None:
    cache = cache_of(tmp_path, bucket, connections=connections)
    assert cache.place_all(dataset(bucket, tmp_path / "1", "abca")) == 3 * FILE
    bucket.sent = 0
    assert cache.place_all(dataset(bucket, tmp_path / "2", "abc")) == 0
    assert bucket.sent == 0
    assert [(tmp_path / "2" / "train" / name).read_bytes()[:1] for name in "abc"] == [b"a", b"b", b"c"]
    assert (tmp_path / "1/train/a").stat().st_ino == (tmp_path / "2/train/a").stat().st_ino


def test_least_recently_used_files_go_first(bucket: Bucket, tmp_path: Path) -> None:
    cache = cache_of(tmp_path, bucket, limit_files=3)
    for name in ("a", "b", "c", "a", "d"):
        run_job(cache, dataset(bucket, tmp_path / name, name))
    assert names_in(tmp_path) == "acd"


def test_what_an_attempt_uses_is_never_removed(bucket: Bucket, tmp_path: Path) -> None:
    cache = cache_of(tmp_path, bucket, limit_files=3)
    cache.place_all(dataset(bucket, tmp_path / "running", "a"))
    for name in ("b", "c", "d", "e"):
        run_job(cache, dataset(bucket, tmp_path / name, name))
    assert names_in(tmp_path) == "ade"


def test_too_little_room_is_said_before_anything_is_fetched(bucket: Bucket, tmp_path: Path) -> None:
    cache = cache_of(tmp_path, bucket, limit_files=3)
    cache.place_all(dataset(bucket, tmp_path / "running", "ab"))
    run_job(cache, dataset(bucket, tmp_path / "old", "c"))
    bucket.sent = 0
    with pytest.raises(
        EnvironmentProblem, match=r"needs 16.0 KiB more, and can make room for 8.0 KiB.*raise"
    ):
        cache.place_all(dataset(bucket, tmp_path / "new", "de"))
    assert bucket.sent == 0
    assert names_in(tmp_path) == "abc", "nothing was removed in vain"


def test_a_dataset_that_does_not_fit_the_disk_is_refused(bucket: Bucket, tmp_path: Path) -> None:
    cache = FileCache(tmp_path / "cache", bucket, limit_bytes=2**60, spare_bytes=2**59)
    with pytest.raises(EnvironmentProblem, match="of the disk are free"):
        cache.place_all(dataset(bucket, tmp_path / "job", "a"))
    assert bucket.sent == 0


def test_a_script_that_wrote_to_its_input_costs_one_more_download(bucket: Bucket, tmp_path: Path) -> None:
    cache, files = cache_of(tmp_path, bucket), dataset(bucket, tmp_path / "1", "ab")
    cache.place_all(files)
    files[0].target.chmod(0o644)
    files[0].target.write_bytes(b"spoiled")
    assert cache.place_all(dataset(bucket, tmp_path / "2", "ab")) == FILE
    assert (tmp_path / "2/train/a").read_bytes() == b"a" * FILE


def test_order_of_use_survives_a_clock_that_jumps(bucket: Bucket, tmp_path: Path) -> None:
    cache = cache_of(tmp_path, bucket, limit_files=3)
    run_job(cache, dataset(bucket, tmp_path / "a", "a"))
    marker = tmp_path / "cache" / MARKER
    ahead = marker.stat().st_mtime_ns + 3650 * DAY_NS  # the clock was ten years fast for a while
    os.utime(marker, ns=(ahead, ahead))
    for name in ("b", "c", "a", "d"):
        run_job(cache, dataset(bucket, tmp_path / name, name))
    assert names_in(tmp_path) == "acd"


def test_use_leaves_the_time_of_change_alone(bucket: Bucket, tmp_path: Path) -> None:
    cache, files = cache_of(tmp_path, bucket), dataset(bucket, tmp_path / "1", "a")
    cache.place_all(files)
    changed = files[0].target.stat().st_mtime_ns
    cache.place_all(dataset(bucket, tmp_path / "2", "a"))
    assert files[0].target.stat().st_mtime_ns == changed


def test_an_interrupted_download_goes_on(bucket: Bucket, tmp_path: Path) -> None:
    cache, files = cache_of(tmp_path, bucket, connections=1), dataset(bucket, tmp_path / "1", "abcd")
    bucket.most = 2 * FILE
    with pytest.raises(Unavailable):
        cache.place_all(files)
    bucket.most, bucket.sent = None, 0
    assert cache.place_all(files) == 2 * FILE
    assert bucket.sent == 2 * FILE


def test_partial_files_count_and_go_when_nobody_fetches_them(bucket: Bucket, tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "cache", limit_bytes=3 * FILE, spare_bytes=0)
    shelf.partials.mkdir(parents=True)
    shelf.part("0" * 64).write_bytes(bytes(2 * FILE))
    run_job(cache_of(tmp_path, bucket, limit_files=3), dataset(bucket, tmp_path / "a", "ab"))
    assert list(shelf.partials.iterdir()) == []


def test_files_come_in_order_while_others_are_fetched(bucket: Bucket, tmp_path: Path) -> None:
    files = dataset(bucket, tmp_path / "job", "abcdef")
    for path, file in zip(cache_of(tmp_path, bucket).stream(files), files, strict=True):
        assert path == file.target
        assert path.read_bytes()[:1].decode() == path.name


def test_wrong_bytes_are_not_kept(bucket: Bucket, tmp_path: Path) -> None:
    good, bad = dataset(bucket, tmp_path / "job", "ab")
    bucket.put(bad.key, b"c" * FILE)
    with pytest.raises(DigestMismatch):
        cache_of(tmp_path, bucket).place_all([good, bad])
    assert names_in(tmp_path) in ("", "a")


def test_a_cache_that_cannot_be_written_says_what_to_do(bucket: Bucket, tmp_path: Path) -> None:
    # /sys takes no files from anybody, not even from root.
    cache = FileCache(Path("/sys/isthmus-cache"), bucket)
    with pytest.raises(EnvironmentProblem, match="make it writable"):
        cache.place_all(dataset(bucket, tmp_path / "job", "a"))
    with pytest.raises(EnvironmentProblem, match="make it writable"):
        cache.fetch(*[dataset(bucket, tmp_path / "job", "a")[0].key] * 2)


@pytest.mark.parametrize(("number", "told"), [(errno.ENOSPC, "is full"), (errno.EROFS, "cannot be written")])
def test_a_disk_that_fails_while_files_come_is_named(
    number: int, told: str, bucket: Bucket, tmp_path: Path
) -> None:
    bucket.most, bucket.error = FILE, OSError(number, os.strerror(number))
    with pytest.raises(EnvironmentProblem, match=told):
        cache_of(tmp_path, bucket).place_all(dataset(bucket, tmp_path / "job", "abc"))
    bucket.most = None
    cache_of(tmp_path, bucket).place_all(dataset(bucket, tmp_path / "job", "abc"))


def test_two_agents_share_one_cache(bucket: Bucket, tmp_path: Path) -> None:
    """In a folder of the same file system, several at the same time: each file is fetched once."""
    files = [dataset(bucket, tmp_path / agent, "abcdefghij") for agent in ("1", "2", "3")]
    threads = [
        threading.Thread(target=cache_of(tmp_path, bucket).place_all, args=(wanted,)) for wanted in files
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bucket.sent == 10 * FILE
    assert all(file.target.stat().st_nlink == 4 for wanted in files for file in wanted)
