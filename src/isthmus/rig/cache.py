"""A rig's store of files by digest: what several jobs read is fetched once, and verified at every use."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from isthmus.errors import DigestMismatch
from isthmus.ports import BlobStore


def file_digest(path: Path) -> str:
    """Return a file's SHA-256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class FileCache:
    """Files below ``root``, named by their SHA-256. A file appears by a rename, whole or not at all."""

    def __init__(self, root: Path, blobs: BlobStore) -> None:
        self._root = root
        self._blobs = blobs

    def fetch(self, key: str, sha256: str) -> Path:
        """Return the file with that digest, downloaded from ``key`` unless it is here.

        It is read again at each use: a script could have written to it through its link.

        Raises:
            DigestMismatch: the store's bytes have another digest.
            MissingFile: the store has no such key.
        """
        path = self._root / sha256[:2] / sha256
        if path.is_file() and file_digest(path) == sha256:
            return path
        fresh = path.with_name(f"{sha256}.{os.getpid()}")
        try:
            actual = self._blobs.download(key, fresh)
            if actual != sha256:
                raise DigestMismatch(f"{key} has the SHA-256 {actual}, but {sha256} was promised")
            fresh.chmod(0o444)
            os.replace(fresh, path)
        finally:
            fresh.unlink(missing_ok=True)
        return path

    def place(self, key: str, sha256: str, target: Path) -> None:
        """Put the file at ``target``: as a link where the file system can, as a copy where not."""
        source = self.fetch(key, sha256)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        try:
            os.link(source, target)
        except OSError:  # another file system, or one without hard links
            shutil.copyfile(source, target)
