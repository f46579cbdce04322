"""The files of a bundle as they lie in a folder: their names and digests. A function starts with no more than this."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from isthmus.errors import InvalidModel

_SAFE_PATH = re.compile(r"(?!.*(^|/)\.\.?(/|$))[^/\\:\x00-\x1f\x7f]+(/[^/\\:\x00-\x1f\x7f]+)*")


def is_safe_path(path: str) -> bool:
    """Return whether this is a relative path with forward slashes that stays below its folder."""
    return _SAFE_PATH.fullmatch(path) is not None


def list_files(folder: Path) -> list[str]:
    """Return the relative paths of all files, sorted.

    Raises:
        InvalidModel: something below ``folder`` is neither a plain file nor a folder.
    """
    names = []
    for path in folder.rglob("*"):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise InvalidModel(f"{path.relative_to(folder)} is a link or a special file")
        if path.is_file():
            names.append(path.relative_to(folder).as_posix())
    return sorted(names)


def sha256_file(path: Path) -> str:
    """Return the SHA-256 (hex) of a file, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
