"""``BlobStore`` in one folder."""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from isthmus.errors import DigestMismatch, LimitExceeded, MissingFile
from isthmus.model.units import format_bytes
from isthmus.ports import BlobInfo


class DirectoryBlobStore:
    """Objects as files below ``root``; each write is a rename, so a reader never sees a half."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def _path(self, key: str) -> Path:
        path = (self._root / key).resolve()
        if not path.is_relative_to(self._root.resolve()):
            raise MissingFile(f"{key} is outside the store")
        return path

    def _existing(self, key: str) -> Path:
        path = self._path(key)
        if not path.is_file():
            raise MissingFile(f"{key} is not in {self._root}")
        return path

    def info(self, key: str) -> BlobInfo | None:
        path = self._path(key)
        return BlobInfo(key, path.stat().st_size) if path.is_file() else None

    def get(self, key: str, *, max_bytes: int) -> bytes:
        path = self._existing(key)
        if path.stat().st_size > max_bytes:
            size, limit = format_bytes(path.stat().st_size), format_bytes(max_bytes)
            raise LimitExceeded(f"{key} is {size}; at most {limit} is read")
        return path.read_bytes()

    def put(self, key: str, data: bytes, *, sha256: str | None = None) -> None:
        if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
            raise DigestMismatch(f"{key}: the bytes do not have the SHA-256 {sha256}")
        temporary = self._temporary(key)
        temporary.write_bytes(data)
        os.replace(temporary, self._path(key))

    def upload(self, key: str, path: Path, *, sha256: str) -> None:
        self.put(key, path.read_bytes(), sha256=sha256)

    def download(self, key: str, path: Path) -> str:
        source = self._existing(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        shutil.copyfile(source, temporary)
        os.replace(temporary, path)
        return self.sha256(key)

    def sha256(self, key: str) -> str:
        with self._existing(key).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    def keys(self, prefix: str) -> Iterator[BlobInfo]:
        for path in sorted(self._root.rglob("*")):
            key = path.relative_to(self._root).as_posix()
            if path.is_file() and key.startswith(prefix):
                yield BlobInfo(key, path.stat().st_size)

    def _temporary(self, key: str) -> Path:
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.with_name(f".{path.name}.{uuid.uuid4().hex}")
