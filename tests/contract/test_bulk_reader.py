"""What is saved to files, on the fake, on botocore and on the native client: the same bytes, the same errors.

The native client does not go through botocore, so not through moto: here both talk to the server of the benchmark,
which serves the folder that the fake writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.paced_s3 import BUCKET, paced_bucket
from isthmus.adapters.aws.blobs import S3BlobStore
from isthmus.adapters.aws.bulk import LOOK_SECONDS, BulkReader
from isthmus.adapters.aws.session import client
from isthmus.adapters.local.blobs import DirectoryBlobStore
from isthmus.errors import AttemptLost, Conflict, MissingFile

DATA = bytes(range(256)) * 20_000
"""5 MB: more than two parts of the native client."""
KEY = "a/ü b+c"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    folder = tmp_path_factory.mktemp("bucket")
    with paced_bucket(folder, round_trip_seconds=0) as bucket:
        yield folder, bucket.url


@pytest.fixture
def folder(served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The bucket's files; AWS's clients talk to who serves them."""
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "testing"),
        ("AWS_SECRET_ACCESS_KEY", "testing"),
        ("AWS_DEFAULT_REGION", "eu-west-1"),
        ("AWS_ENDPOINT_URL", served[1]),
    ):
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    client.cache_clear()
    yield served[0]
    client.cache_clear()


def native() -> BulkReader:
    bulk = BulkReader.if_possible(BUCKET, 4)
    assert bulk is not None, "awscrt comes with isthmus[rig]"
    return bulk


@pytest.fixture(params=["folder", "botocore", "native"])
def blobs(request: pytest.FixtureRequest, folder: Path) -> DirectoryBlobStore | S3BlobStore:
    if request.param == "folder":
        return DirectoryBlobStore(folder)
    return S3BlobStore(BUCKET, native() if request.param == "native" else None)


def test_saved_bytes_lie_where_they_belong(
    blobs: DirectoryBlobStore | S3BlobStore, folder: Path, tmp_path: Path
) -> None:
    bucket, path = DirectoryBlobStore(folder), tmp_path / "file"
    bucket.put(KEY, DATA)
    info = blobs.info(KEY)
    assert info is not None
    path.touch()
    inode = path.stat().st_ino
    blobs.save(KEY, path)
    assert path.read_bytes() == DATA
    path.write_bytes(bytes(len(DATA)))
    blobs.save(KEY, path, start=1000, stop=4_000_001, version=info.version)
    assert path.read_bytes() == bytes(1000) + DATA[1000:4_000_001] + bytes(len(DATA) - 4_000_001)
    assert path.stat().st_ino == inode, "it is written, not replaced: a lock on it stays"

    bucket.put(KEY, DATA[::-1])
    with pytest.raises(Conflict):
        blobs.save(KEY, path, start=0, stop=10, version=info.version)
    with pytest.raises(MissingFile, match="gone"):
        blobs.save("gone", path)
    with pytest.raises(FileNotFoundError):
        blobs.save(KEY, tmp_path / "no file", start=0, stop=10)


@pytest.mark.parametrize("kind", ["folder", "botocore", "native"])
def test_what_is_not_wanted_any_more_ends_at_once(
    kind: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fetched over a link on which one answer takes longer than the time between two looks."""
    DirectoryBlobStore(folder).put(KEY, DATA)
    path = tmp_path / "file"
    path.touch()
    asked: list[int] = []

    def go_on() -> None:
        asked.append(path.stat().st_size)
        raise AttemptLost("the rig was stopped")

    with paced_bucket(folder, round_trip_seconds=2 * LOOK_SECONDS) as bucket:
        monkeypatch.setenv("AWS_ENDPOINT_URL", bucket.url)
        client.cache_clear()
        blobs: DirectoryBlobStore | S3BlobStore = DirectoryBlobStore(folder)
        if kind != "folder":
            blobs = S3BlobStore(BUCKET, native() if kind == "native" else None)
        with pytest.raises(AttemptLost, match="the rig was stopped"):
            blobs.save(KEY, path, go_on=go_on)
    assert asked, "it was asked whether to go on"
    assert path.stat().st_size < len(DATA)


def test_the_native_client_does_it_itself(folder: Path, tmp_path: Path) -> None:
    """Not botocore in its place."""
    DirectoryBlobStore(folder).put(KEY, DATA)
    bulk, path = native(), tmp_path / "file"
    path.touch()
    assert bulk.save(KEY, path, 0, None, "")
    assert path.read_bytes() == DATA
    assert bulk.save(KEY, path, 5, 10, "")
    assert not bulk.save("gone", path, 0, None, "")


def test_a_proxy_is_left_to_botocore(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    assert BulkReader.if_possible(BUCKET, 4) is None
