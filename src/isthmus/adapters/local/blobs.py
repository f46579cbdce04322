"""``BlobStore`` in one folder."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from isthmus.errors import Conflict, DigestMismatch, LimitExceeded, MissingFile
from isthmus.model.units import KIB, format_bytes
from isthmus.ports import BlobInfo, GoOn, always

PIECE_BYTES = 256 * KIB
UNFINISHED = re.compile(r"\..*\.[0-9a-f]{32}")
"""Names of files that are being written, and are no objects yet."""


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
        return BlobInfo(key, path.stat().st_size, version=_version(path)) if path.is_file() else None

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

    def create(self, key: str, data: bytes) -> bool:
        temporary = self._temporary(key)
        temporary.write_bytes(data)
        try:
            os.link(temporary, self._path(key))  # unlike a rename, it replaces nothing
        except FileExistsError:
            return False
        finally:
            temporary.unlink()
        return True

    def upload(self, key: str, path: Path, *, sha256: str) -> None:
        self.put(key, path.read_bytes(), sha256=sha256)

    def download(self, key: str, path: Path) -> str:
        source = self._existing(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        shutil.copyfile(source, temporary)
        os.replace(temporary, path)
        return self.sha256(key)

    def pieces(
        self, key: str, *, start: int = 0, stop: int | None = None, version: str = ""
    ) -> Iterator[bytes]:
        path = self._existing(key)
        with path.open("rb") as stream:
            if version and _version(path) != version:
                raise Conflict(f"{key} is no longer the version {version}")
            stream.seek(start)
            left = (path.stat().st_size if stop is None else stop) - start
            while left > 0 and (piece := stream.read(min(left, PIECE_BYTES))):
                left -= len(piece)
                yield piece

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
        with path.open("r+b") as file:
            file.seek(start)
            for piece in self.pieces(key, start=start, stop=stop, version=version):
                file.write(piece)
                go_on()

    def compose(self, key: str, pieces: Iterator[bytes], *, sha256: str) -> None:
        temporary, digest = self._temporary(key), hashlib.sha256()
        try:
            with temporary.open("wb") as stream:
                for piece in pieces:
                    digest.update(piece)
                    stream.write(piece)
            if digest.hexdigest() != sha256:
                raise DigestMismatch(f"{key}: the bytes have the SHA-256 {digest.hexdigest()}, not {sha256}")
            os.replace(temporary, self._path(key))
        finally:
            temporary.unlink(missing_ok=True)

    def sha256(self, key: str) -> str:
        with self._existing(key).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    def keys(self, prefix: str) -> Iterator[BlobInfo]:
        for path in sorted(self._root.rglob("*")):
            key = path.relative_to(self._root).as_posix()
            if not key.startswith(prefix) or UNFINISHED.fullmatch(path.name) or not path.is_file():
                continue
            with contextlib.suppress(FileNotFoundError):  # deleted by somebody else meanwhile
                yield BlobInfo(key, path.stat().st_size)

    def delete(self, key: str) -> None:
        self._path(key).unlink(missing_ok=True)

    def _temporary(self, key: str) -> Path:
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.with_name(f".{path.name}.{uuid.uuid4().hex}")


def _version(path: Path) -> str:
    """Each write makes a new file: its inode and time stand for its bytes."""
    facts = path.stat()
    return f"{facts.st_ino}-{facts.st_mtime_ns}-{facts.st_size}"
