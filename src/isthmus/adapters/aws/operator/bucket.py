"""The data bucket and all its versions, on Amazon S3."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from botocore.exceptions import ClientError

from isthmus.adapters.aws.errors import passing_trouble
from isthmus.adapters.aws.operator.home import Home, call, is_gone
from isthmus.adapters.aws.session import client
from isthmus.errors import Unavailable
from isthmus.model import layout
from isthmus.model.inventory import Thing

MAX_DELETED = 1000
"""Objects in one DeleteObjects request (S3 API reference)."""
DATA = ("data",)
BUNDLES = ("data", "models")
"""``--keep models`` keeps the bundles, ``--keep data`` all that the bucket holds."""


class BucketObjects:
    """Every version and delete marker, by top-level folder."""

    kind = "bucket folder"

    def __init__(self, home: Home) -> None:
        self._home = home

    @passing_trouble("S3")
    def find(self) -> list[Thing]:
        if not _is_ours(self._home):
            return []
        counts: dict[str, tuple[int, int]] = {}
        for page in _pages(self._home.bucket):
            for entry in page:
                folder, slash, _ = entry["Key"].partition("/")
                items, size = counts.get(folder + slash, (0, 0))
                counts[folder + slash] = (items + 1, size + int(entry.get("Size", 0)))
        return [
            Thing(
                id=folder,
                name=f"s3://{self._home.bucket}/{folder}",
                items=items,
                size_bytes=size,
                kept_by=BUNDLES if folder == layout.BUNDLES else DATA,
                price="s3_gb_month",
                note="every version",
            )
            for folder, (items, size) in sorted(counts.items())
        ]

    @passing_trouble("S3")
    def remove(self, thing: Thing, report: Callable[[str], None]) -> None:
        removed, s3 = 0, client("s3")
        for page in _pages(self._home.bucket, thing.id):
            objects = [{"Key": entry["Key"], "VersionId": entry["VersionId"]} for entry in page]
            if not objects:
                continue
            answer = s3.delete_objects(Bucket=self._home.bucket, Delete={"Objects": objects, "Quiet": True})
            for refused in answer.get("Errors", []):
                raise Unavailable(f"S3 did not delete {refused['Key']}: {refused.get('Message')}")
            removed += len(objects)
            if removed > MAX_DELETED:
                report(f"{removed} of {thing.items} objects are gone")


class BucketItself:
    """The emptied bucket; unfinished uploads go with it."""

    kind = "bucket"

    def __init__(self, home: Home) -> None:
        self._home = home

    @passing_trouble("S3")
    def find(self) -> list[Thing]:
        if not _exists(self._home.bucket) or not _is_ours(self._home):
            return []
        return [Thing(id=self._home.bucket, name=self._home.bucket, kept_by=BUNDLES)]

    @passing_trouble("S3")
    def remove(self, thing: Thing, report: Callable[[str], None]) -> None:
        call("s3", "delete_bucket", Bucket=thing.id)


def _is_ours(home: Home) -> bool:
    """Whether the bucket of that name is the stack's: by its outputs, its tag, or the key that encrypts it.

    Other applications name buckets after themselves, the account and the region too. A bucket of
    version 0.1.0 that outlived its stack has no tag.
    """
    if home.outputs().get("Bucket") == home.bucket:
        return True
    tagged = call("s3", "get_bucket_tagging", Bucket=home.bucket).get("TagSet", [])
    return home.owns(
        {tag["Key"]: tag["Value"] for tag in tagged}, otherwise=home.owns_key(_key_of(home.bucket))
    )


def _key_of(bucket: str) -> str:
    answer = call("s3", "get_bucket_encryption", Bucket=bucket)
    rules = answer.get("ServerSideEncryptionConfiguration", {}).get("Rules", [])
    defaults = [rule.get("ApplyServerSideEncryptionByDefault", {}) for rule in rules]
    return next((str(entry["KMSMasterKeyID"]) for entry in defaults if entry.get("KMSMasterKeyID")), "")


def _exists(bucket: str) -> bool:
    try:
        client("s3").head_bucket(Bucket=bucket)
    except ClientError as error:
        if is_gone(error):
            return False
        raise
    return True


def _pages(bucket: str, prefix: str = "") -> Iterator[list[dict[str, Any]]]:
    """Yield versions and delete markers, page by page; a folder's name ends in a slash."""
    paginator = client("s3").get_paginator("list_object_versions")
    try:
        for page in paginator.paginate(Bucket=bucket, Prefix=prefix):
            found = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
            yield [entry for entry in found if prefix.endswith("/") or prefix in ("", entry["Key"])]
    except ClientError as error:
        if not is_gone(error):
            raise
