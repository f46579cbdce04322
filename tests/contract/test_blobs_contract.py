from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from isthmus.adapters.aws import multipart
from isthmus.adapters.aws.blobs import S3BlobStore
from isthmus.adapters.aws.session import client
from isthmus.adapters.local.blobs import DirectoryBlobStore
from isthmus.errors import Conflict, DigestMismatch, LimitExceeded, MissingFile
from isthmus.ports import BlobStore

DATA = b"some bytes"
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(params=["folder", "s3"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    if request.param == "folder":
        return DirectoryBlobStore(tmp_path / "store")
    request.getfixturevalue("aws")
    client("s3").create_bucket(Bucket="data", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    return S3BlobStore("data")


def test_what_is_put_is_what_is_read(blobs: BlobStore) -> None:
    blobs.put("a/b", DATA, sha256=DIGEST)
    assert blobs.get("a/b", max_bytes=len(DATA)) == DATA
    assert blobs.sha256("a/b") == DIGEST
    info = blobs.info("a/b")
    assert info is not None
    assert (info.key, info.size_bytes) == ("a/b", len(DATA))
    assert info.sha256 in (None, DIGEST)


def test_the_last_write_stands(blobs: BlobStore) -> None:
    blobs.put("a", b"first")
    blobs.put("a", b"")
    assert blobs.get("a", max_bytes=10) == b""


def test_of_two_who_create_an_object_one_does(blobs: BlobStore) -> None:
    assert blobs.create("a/b", b"first") is True
    assert blobs.create("a/b", b"second") is False
    assert blobs.get("a/b", max_bytes=10) == b"first"
    assert [info.key for info in blobs.keys("a/")] == ["a/b"]
    blobs.delete("a/b")
    assert blobs.create("a/b", b"third") is True
    assert blobs.get("a/b", max_bytes=10) == b"third"


def test_what_is_not_there_is_missing_and_named(blobs: BlobStore, tmp_path: Path) -> None:
    assert blobs.info("gone") is None
    with pytest.raises(MissingFile, match="gone"):
        blobs.get("gone", max_bytes=10)
    with pytest.raises(MissingFile, match="gone"):
        blobs.sha256("gone")
    with pytest.raises(MissingFile, match="gone"):
        blobs.download("gone", tmp_path / "file")
    assert not (tmp_path / "file").exists()


def test_a_size_over_the_limit_is_refused(blobs: BlobStore) -> None:
    blobs.put("a", DATA)
    with pytest.raises(LimitExceeded, match="at most 9 B"):
        blobs.get("a", max_bytes=len(DATA) - 1)


def test_bytes_other_than_promised_are_not_written(blobs: BlobStore) -> None:
    with pytest.raises(DigestMismatch, match="a"):
        blobs.put("a", DATA, sha256="0" * 64)
    assert blobs.info("a") is None


def test_files_go_up_and_come_down_whole(blobs: BlobStore, tmp_path: Path) -> None:
    source, target = tmp_path / "in", tmp_path / "deep" / "out"
    source.write_bytes(DATA)
    blobs.upload("x", source, sha256=DIGEST)
    assert blobs.download("x", target) == DIGEST
    assert target.read_bytes() == DATA
    assert [path.name for path in target.parent.iterdir()] == ["out"], "nothing half-written is left"


# Of the fake alone: moto does not compare an object with its x-amz-checksum-sha256, as S3 does.
# S3's own refusal (BadDigest) is in tests/unit/adapters.
def test_a_file_that_changed_since_it_was_hashed_is_refused(tmp_path: Path) -> None:
    blobs = DirectoryBlobStore(tmp_path / "store")
    (tmp_path / "in").write_bytes(b"changed")
    with pytest.raises(DigestMismatch):
        blobs.upload("x", tmp_path / "in", sha256=DIGEST)
    assert blobs.info("x") is None


def test_keys_are_listed_by_prefix(blobs: BlobStore) -> None:
    for key in ("a/1", "a/2", "ab", "b/1"):
        blobs.put(key, DATA)
    assert sorted(info.key for info in blobs.keys("a/")) == ["a/1", "a/2"]
    assert {info.size_bytes for info in blobs.keys("")} == {len(DATA)}
    assert list(blobs.keys("none/")) == []


def test_what_is_deleted_is_gone_and_deleting_it_again_is_no_error(blobs: BlobStore) -> None:
    blobs.put("a/b", DATA)
    blobs.put("a/c", DATA)
    for _ in range(2):
        blobs.delete("a/b")
    assert [info.key for info in blobs.keys("a/")] == ["a/c"]


def test_a_range_is_read_of_one_version_alone(blobs: BlobStore) -> None:
    blobs.put("a", DATA)
    info = blobs.info("a")
    assert info is not None
    version = info.version
    assert b"".join(blobs.pieces("a")) == DATA
    assert b"".join(blobs.pieces("a", start=5, version=version)) == DATA[5:]
    assert b"".join(blobs.pieces("a", start=2, stop=5, version=version)) == DATA[2:5]
    assert b"".join(blobs.pieces("a", start=2, stop=2)) == b""
    blobs.put("a", DATA[::-1])
    with pytest.raises(Conflict, match="a is no longer the version"):
        list(blobs.pieces("a", start=2, stop=5, version=version))
    with pytest.raises(MissingFile, match="gone"):
        list(blobs.pieces("gone"))


def test_pieces_are_small_and_in_order(blobs: BlobStore) -> None:
    data = bytes(range(256)) * 4096
    blobs.put("a", data)
    pieces = list(blobs.pieces("a"))
    assert b"".join(pieces) == data
    assert max(map(len, pieces)) <= 256 * 1024


@pytest.mark.parametrize("data", [b"", DATA], ids=["empty", "small"])
def test_an_object_is_composed_of_pieces(data: bytes, blobs: BlobStore) -> None:
    blobs.compose("a", iter([data[:3], data[3:]]), sha256=hashlib.sha256(data).hexdigest())
    assert blobs.get("a", max_bytes=100) == data


@pytest.mark.parametrize("size", [10, 12 * 2**20])
def test_pieces_other_than_promised_compose_nothing(
    size: int, blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multipart, "PART_BYTES", 5 * 2**20)
    with pytest.raises(DigestMismatch, match="a"):
        blobs.compose("a", iter([bytes(size)]), sha256="0" * 64)
    assert blobs.info("a") is None


def test_a_large_object_is_composed_in_parts(blobs: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multipart, "PART_BYTES", 5 * 2**20)
    piece = bytes(range(256)) * 4096
    digest = hashlib.sha256(piece * 12).hexdigest()
    blobs.compose("a", iter([piece] * 12), sha256=digest)
    assert blobs.sha256("a") == digest
