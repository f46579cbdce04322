"""An object of any size from a stream: parts are sent as they fill, and count once the digest is right."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from typing import Any

from isthmus.adapters.aws.session import client
from isthmus.errors import DigestMismatch
from isthmus.model.units import MIB

PART_BYTES = 64 * MIB
"""10,000 parts (S3 user guide, "Amazon S3 multipart upload limits") are 625 GiB; all but the last are of one size."""


def parts_of(pieces: Iterator[bytes], part_bytes: int) -> Iterator[bytes]:
    """Join pieces to parts; only the last one is smaller, and there is one even of nothing."""
    buffer, first = bytearray(), True
    for piece in pieces:
        buffer += piece
        while len(buffer) > part_bytes:
            yield bytes(buffer[:part_bytes])
            del buffer[:part_bytes]
            first = False
    if buffer or first:
        yield bytes(buffer)


def send_parts(bucket: str, key: str, parts: Iterator[bytes], sha256: str) -> None:
    """Upload parts as one object. What is not completed is no object; the bucket's lifecycle rule removes it.

    Raises:
        DigestMismatch: together they have another SHA-256; the upload is not completed.
    """
    s3, digest, where = client("s3"), hashlib.sha256(), {"Bucket": bucket, "Key": key}
    upload = s3.create_multipart_upload(**where)["UploadId"]
    sent: list[dict[str, Any]] = []
    for number, part in enumerate(parts, 1):
        digest.update(part)
        answer = s3.upload_part(**where, UploadId=upload, PartNumber=number, Body=part)
        sent.append({"PartNumber": number, "ETag": answer["ETag"]})
    if digest.hexdigest() != sha256:
        raise DigestMismatch(f"{key}: the bytes have the SHA-256 {digest.hexdigest()}, not {sha256}")
    s3.complete_multipart_upload(**where, UploadId=upload, MultipartUpload={"Parts": sent})


def peek(parts: Iterator[bytes]) -> tuple[bytes, Iterator[bytes] | None]:
    """Return the first part, and all of them again if there is more than that one."""
    first = next(parts)
    second = next(parts, None)
    return first, None if second is None else itertools.chain((first, second), parts)
