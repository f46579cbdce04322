"""Upload what the bucket does not have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from isthmus.ports import BlobStore

Progress = Callable[[str, int, int], None]
"""Called with a file's name, its number (from 1) and the number of all files."""


Shortcut = Callable[[str, Path, str], "int | None"]
"""Sends a file (key, path, digest) in fewer bytes, and returns how many; None: it is to be sent whole."""


def whole(key: str, path: Path, sha256: str) -> None:
    """Know no shortcut."""


def upload_missing(
    wanted: list[tuple[str, Path, str]], blobs: BlobStore, progress: Progress, shortcut: Shortcut = whole
) -> tuple[int, int]:
    """Upload each ``(key, path, sha256)`` that is not there yet; return files and bytes sent.

    Keys are named by content or checked by the manifest's digests, so an object of the same size
    at the same key is the same object until ``register_dataset`` says otherwise.
    """
    sent, sent_bytes = 0, 0
    for number, (key, path, sha256) in enumerate(wanted, 1):
        progress(path.name, number, len(wanted))
        info, size = blobs.info(key), path.stat().st_size
        if info is not None and info.size_bytes == size and info.sha256 in (None, sha256):
            continue
        shorter = shortcut(key, path, sha256)
        if shorter is None:
            blobs.upload(key, path, sha256=sha256)
        sent, sent_bytes = sent + 1, sent_bytes + (size if shorter is None else shorter)
    return sent, sent_bytes
