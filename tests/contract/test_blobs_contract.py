from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from isthmus.adapters.aws.blobs import S3BlobStore
from isthmus.adapters.aws.session import client
from isthmus.adapters.local.blobs import DirectoryBlobStore
from isthmus.errors import DigestMismatch, LimitExceeded, MissingFile
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
