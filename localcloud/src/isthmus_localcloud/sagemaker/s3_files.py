"""Between S3 and a job's folder. All functions take a boto3 S3 client."""

import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def split_uri(uri: str) -> tuple[str, str]:
    """Bucket and key of an ``s3://`` URI. Raises ValueError for any other text."""
    if not uri.startswith("s3://"):
        raise ValueError(f"an S3 URI starts with s3://, but this is {uri!r}")
    bucket, _, key = uri[5:].partition("/")
    return bucket, key


def keys_below(s3: Any, bucket: str, prefix: str) -> Iterator[str]:
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for entry in page.get("Contents", []):
            if not entry["Key"].endswith("/"):
                yield entry["Key"]


def relative_name(key: str, prefix: str) -> str:
    """Where a key lies in its channel: below the prefix if that names a folder, else its own last part."""
    folder = prefix if prefix.endswith("/") or not prefix else f"{prefix}/"
    return key[len(folder) :] if key.startswith(folder) else key.rpartition("/")[2]


def download_prefix(s3: Any, uri: str, folder: Path) -> int:
    """Returns the number of files. Raises ValueError for a key that would leave the folder."""
    bucket, prefix = split_uri(uri)
    count = 0
    for key in keys_below(s3, bucket, prefix):
        target = (folder / relative_name(key, prefix)).resolve()
        if not target.is_relative_to(folder.resolve()):
            raise ValueError(f"the key {key!r} would be written outside its channel")
        target.parent.mkdir(parents=True, exist_ok=True)
        s3.download_file(bucket, key, str(target))
        count += 1
    return count


def download_manifest(s3: Any, uri: str, folder: Path) -> int:
    """The objects that a manifest lists, by their names in it: ``[{"prefix": "s3://…"}, "a", "b"]``
    (API reference, ``S3DataSource``). Returns the number of files.

    Raises ValueError for a name that would leave the folder.
    """
    bucket, key = split_uri(uri)
    head, *names = json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    there, prefix = split_uri(head["prefix"])
    for name in names:
        target = (folder / name).resolve()
        if not target.is_relative_to(folder.resolve()):
            raise ValueError(f"the name {name!r} would be written outside its channel")
        target.parent.mkdir(parents=True, exist_ok=True)
        s3.download_file(there, f"{prefix}{name}", str(target))
    return len(names)


def upload_archive(s3: Any, folder: Path, uri: str, scratch: Path) -> None:
    """The folder as a gzipped tar, members relative to it."""
    archive = scratch / uri.rpartition("/")[2]
    with tarfile.open(archive, "w:gz") as tar:
        for entry in sorted(folder.iterdir()):
            tar.add(entry, arcname=entry.name)
    bucket, key = split_uri(uri)
    s3.upload_file(str(archive), bucket, key)
    archive.unlink()


class FolderMirror:
    """Copies what changed in a folder to S3, as SageMaker does with checkpoints."""

    def __init__(self, s3: Any, folder: Path, uri: str) -> None:
        self._s3, self._folder = s3, folder
        self._bucket, prefix = split_uri(uri)
        self._prefix = prefix.rstrip("/")
        self._seen = self._fingerprints()

    def _fingerprints(self) -> dict[str, tuple[int, int]]:
        found = {}
        for path, _folders, names in os.walk(self._folder):
            for name in names:
                file = Path(path) / name
                if file.is_file() and not file.is_symlink():
                    stat = file.stat()
                    found[str(file.relative_to(self._folder))] = (stat.st_mtime_ns, stat.st_size)
        return found

    def push(self) -> None:
        """A file that vanishes meanwhile is left for the next round."""
        for name, fingerprint in self._fingerprints().items():
            if self._seen.get(name) == fingerprint:
                continue
            try:
                self._s3.upload_file(
                    str(self._folder / name), self._bucket, f"{self._prefix}/{name}".lstrip("/")
                )
            except FileNotFoundError:
                continue
            self._seen[name] = fingerprint
