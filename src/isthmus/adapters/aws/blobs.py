"""``BlobStore`` on one S3 bucket."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from isthmus.adapters.aws import multipart
from isthmus.adapters.aws.bulk import BulkReader
from isthmus.adapters.aws.errors import code_of, message_of, passing_trouble
from isthmus.adapters.aws.session import client
from isthmus.errors import Conflict, DigestMismatch, LimitExceeded, MissingFile
from isthmus.model.units import GIB, KIB, MIB, format_bytes
from isthmus.ports import BlobInfo, GoOn, always

CHUNK_BYTES = 4 * MIB
PIECE_BYTES = 256 * KIB
"""Of a stream; many are read at a time, so that this bounds their memory."""
MAX_PUT_BYTES = 5 * GIB
"""S3's limit on one PutObject."""
NOT_AS_PROMISED = frozenset({"BadDigest", "XAmzContentChecksumMismatch"})
NOT_FOUND = frozenset({"NoSuchKey", "404", "NotFound"})
OTHER_VERSION = "PreconditionFailed"
WRITTEN_AT_ONCE = "ConditionalRequestConflict"
"""Of a conditional write (S3 User Guide, "How to prevent object overwrites with conditional writes": 409, retry)."""
CREATE_ATTEMPTS = 5


def _checksum(answer: dict[str, Any]) -> str | None:
    """Return the object's own SHA-256 in hex, if S3 has one of the whole object.

    A multipart upload's SHA-256 is a checksum of checksums (S3: ``ChecksumType`` COMPOSITE), which
    says nothing about the bytes as a whole.
    """
    value = answer.get("ChecksumSHA256")
    if not value or answer.get("ChecksumType", "FULL_OBJECT") != "FULL_OBJECT" or "-" in value:
        return None
    return base64.b64decode(value).hex()


class S3BlobStore:
    """Objects of one bucket; every put carries its SHA-256, which S3 verifies before it answers.

    ``bulk`` fetches what is saved to files, for less processor time.
    """

    def __init__(self, bucket: str, bulk: BulkReader | None = None) -> None:
        self.bucket = bucket
        self._bulk = bulk

    @passing_trouble("S3")
    def info(self, key: str) -> BlobInfo | None:
        try:
            answer = client("s3").head_object(Bucket=self.bucket, Key=key, ChecksumMode="ENABLED")
        except ClientError as error:
            if code_of(error) in NOT_FOUND:
                return None
            raise
        return BlobInfo(key, int(answer["ContentLength"]), _checksum(answer), answer.get("ETag", ""))

    @passing_trouble("S3")
    def get(self, key: str, *, max_bytes: int) -> bytes:
        answer = self._open(key)
        size = int(answer["ContentLength"])
        with contextlib.closing(answer["Body"]) as body:
            if size > max_bytes:
                raise LimitExceeded(
                    f"{key} is {format_bytes(size)}; at most {format_bytes(max_bytes)} is read"
                )
            return bytes(body.read())

    @passing_trouble("S3")
    def put(self, key: str, data: bytes, *, sha256: str | None = None) -> None:
        digest = hashlib.sha256(data).hexdigest()
        if sha256 is not None and digest != sha256:
            raise DigestMismatch(f"{key}: the bytes have the SHA-256 {digest}, not {sha256}")
        client("s3").put_object(Bucket=self.bucket, Key=key, Body=data, ChecksumSHA256=_base64(digest))

    @passing_trouble("S3")
    def create(self, key: str, data: bytes) -> bool:
        digest = hashlib.sha256(data).hexdigest()
        for _ in range(CREATE_ATTEMPTS):
            try:
                client("s3").put_object(
                    Bucket=self.bucket, Key=key, Body=data, ChecksumSHA256=_base64(digest), IfNoneMatch="*"
                )
            except ClientError as error:
                if code_of(error) == OTHER_VERSION:
                    return False
                # Of two writes at once, or one beside a deletion, S3 asks the loser to try again.
                if code_of(error) == WRITTEN_AT_ONCE:
                    continue
                raise
            return True
        raise Conflict(f"{key} was written by others each time it was tried; try again later")

    @passing_trouble("S3")
    def upload(self, key: str, path: Path, *, sha256: str) -> None:
        size = path.stat().st_size
        if size > MAX_PUT_BYTES:
            # In a multipart upload S3 would keep no SHA-256 of the whole.
            raise LimitExceeded(
                f"{path.name} is {format_bytes(size)}; at most {format_bytes(MAX_PUT_BYTES)} is sent in one "
                "piece: upload it by `aws s3 cp`, with what `isthmus dataset manifest` writes"
            )
        try:
            with path.open("rb") as stream:
                client("s3").put_object(
                    Bucket=self.bucket, Key=key, Body=stream, ChecksumSHA256=_base64(sha256)
                )
        except ClientError as error:
            if code_of(error) in NOT_AS_PROMISED:
                raise DigestMismatch(f"{path} changed while it was uploaded; run it again") from error
            raise

    @passing_trouble("S3")
    def download(self, key: str, path: Path) -> str:
        answer, digest = self._open(key), hashlib.sha256()
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            with contextlib.closing(answer["Body"]) as body, temporary.open("wb") as stream:
                for chunk in body.iter_chunks(CHUNK_BYTES):
                    digest.update(chunk)
                    stream.write(chunk)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        return digest.hexdigest()

    def pieces(
        self, key: str, *, start: int = 0, stop: int | None = None, version: str = ""
    ) -> Iterator[bytes]:
        if stop is not None and stop <= start:
            return  # HTTP has no empty range (RFC 9110, 14.1.2)
        asked: dict[str, str] = {"IfMatch": version} if version else {}
        if start or stop is not None:
            asked["Range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
        with passing_trouble("S3"):
            answer = self._open(key, **asked)
            with contextlib.closing(answer["Body"]) as body:
                yield from body.iter_chunks(PIECE_BYTES)

    def save(
        self,
        key: str,
        path: Path,
        *,
        start: int = 0,
        stop: int | None = None,
        version: str = "",
        go_on: GoOn = always,
    ) -> None:
        # What the native client does not manage is tried again by this one, whose errors have names.
        if self._bulk is not None and self._bulk.save(key, path, start, stop, version, go_on):
            return
        with path.open("r+b") as file:
            file.seek(start)
            for piece in self.pieces(key, start=start, stop=stop, version=version):
                file.write(piece)
                go_on()

    @passing_trouble("S3")
    def compose(self, key: str, pieces: Iterator[bytes], *, sha256: str) -> None:
        # One PutObject leaves S3's own SHA-256 of the whole, which a multipart upload does not.
        first, parts = multipart.peek(multipart.parts_of(pieces, multipart.PART_BYTES))
        if parts is None:
            self.put(key, first, sha256=sha256)
        else:
            multipart.send_parts(self.bucket, key, parts, sha256)

    @passing_trouble("S3")
    def sha256(self, key: str) -> str:
        answer, digest = self._open(key), hashlib.sha256()
        with contextlib.closing(answer["Body"]) as body:
            for chunk in body.iter_chunks(CHUNK_BYTES):
                digest.update(chunk)
        return digest.hexdigest()

    @passing_trouble("S3")
    def delete(self, key: str) -> None:
        client("s3").delete_object(Bucket=self.bucket, Key=key)

    def keys(self, prefix: str) -> Iterator[BlobInfo]:
        pages = client("s3").get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        with passing_trouble("S3"):
            for page in pages:
                for entry in page.get("Contents", []):
                    yield BlobInfo(entry["Key"], int(entry["Size"]))

    def _open(self, key: str, **asked: str) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = client("s3").get_object(Bucket=self.bucket, Key=key, **asked)
        except ClientError as error:
            if code_of(error) == OTHER_VERSION:
                raise Conflict(f"{key} is no longer the version {asked.get('IfMatch')}") from error
            # Who may not list the bucket is refused the listing when the object is missing.
            unlisted = "s3:ListBucket" in message_of(error)
            if unlisted or code_of(error) in NOT_FOUND:
                raise MissingFile(f"{key} is not in the bucket {self.bucket}") from error
            raise
        return answer


def _base64(digest_hex: str) -> str:
    return base64.b64encode(bytes.fromhex(digest_hex)).decode()
