"""Objects as files of a folder that several machines have (NFS, say), as far as a relayed stream needs them
(``transport.ports.Objects``)."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from isthmus.errors import LimitExceeded, MissingFile, Unavailable
from isthmus.model.units import format_bytes
from isthmus.ports import BlobInfo

UNFINISHED = ".unfinished-"


class SharedFolder:
    """Objects below ``root``; each is there whole or not at all. Needs a file system with hard links: unlike a rename,
    a link replaces nothing."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def create(self, key: str, data: bytes) -> bool:
        path = self._root / key
        temporary = path.with_name(f"{UNFINISHED}{uuid.uuid4().hex}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                temporary.write_bytes(data)
                os.link(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)
        except FileExistsError:
            return False
        except OSError as error:
            raise Unavailable(f"{path} could not be written: {error.strerror}") from error
        return True

    def get(self, key: str, *, max_bytes: int) -> bytes:
        path = self._root / key
        try:
            with path.open("rb") as file:
                if (size := os.fstat(file.fileno()).st_size) > max_bytes:
                    raise LimitExceeded(
                        f"{key} is {format_bytes(size)}; at most {format_bytes(max_bytes)} is read"
                    )
                return file.read()
        except FileNotFoundError as error:
            raise MissingFile(f"{key} is not in {self._root}") from error
        except OSError as error:
            raise Unavailable(f"{path} could not be read: {error.strerror}") from error

    def keys(self, prefix: str) -> Iterator[BlobInfo]:
        folder, found = self._root / prefix.rpartition("/")[0], []
        try:
            for path in sorted(folder.rglob("*")):
                key = path.relative_to(self._root).as_posix()
                if key.startswith(prefix) and not path.name.startswith(UNFINISHED) and path.is_file():
                    with contextlib.suppress(FileNotFoundError):  # deleted by the other side meanwhile
                        found.append(BlobInfo(key, path.stat().st_size))
        except OSError as error:
            raise Unavailable(f"{folder} could not be listed: {error.strerror}") from error
        return iter(found)

    def delete(self, key: str) -> None:
        try:
            (self._root / key).unlink(missing_ok=True)
        except OSError as error:
            raise Unavailable(f"{key} could not be deleted: {error.strerror}") from error
