"""``Presigner`` on one S3 bucket: addresses that carry a signature of this process's credentials."""

from __future__ import annotations

import base64

from isthmus.adapters.aws.session import PRESIGNED, client
from isthmus.ports import Grant


class S3Presigner:
    """An address ends with its time, or with the credentials that signed it, whichever is sooner.

    Size and checksum are signed headers: S3 refuses a request that says others, and bytes that do not
    have them (S3 API reference, PutObject, ``x-amz-checksum-sha256``: ``BadDigest``).
    """

    def __init__(self, bucket: str) -> None:
        self._bucket = bucket

    def to_put(self, key: str, *, size_bytes: int, sha256: str, seconds: int) -> Grant:
        checksum = base64.b64encode(bytes.fromhex(sha256)).decode()
        parameters = {
            "Bucket": self._bucket,
            "Key": key,
            "ContentLength": size_bytes,
            "ChecksumSHA256": checksum,
        }
        url = client("s3", PRESIGNED).generate_presigned_url(
            "put_object", Params=parameters, ExpiresIn=seconds
        )
        return Grant(str(url), {"content-length": str(size_bytes), "x-amz-checksum-sha256": checksum})

    def to_put_any(self, key: str, *, seconds: int) -> str:
        parameters = {"Bucket": self._bucket, "Key": key}
        return str(
            client("s3", PRESIGNED).generate_presigned_url("put_object", Params=parameters, ExpiresIn=seconds)
        )

    def to_get(self, key: str, *, seconds: int) -> str:
        parameters = {"Bucket": self._bucket, "Key": key}
        return str(
            client("s3", PRESIGNED).generate_presigned_url("get_object", Params=parameters, ExpiresIn=seconds)
        )
