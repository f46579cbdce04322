"""AWS's limit on what a function may weigh, checked before anything is uploaded."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

from isthmus.errors import InvalidInput, LimitExceeded

UNZIPPED_LIMIT_BYTES = 262_144_000
"""Function and layers together, unzipped: 250 MiB (Lambda quotas, "Deployment package size")."""


def check_unzipped(parts: Mapping[str, int]) -> int:
    """Return the sum of the parts (name to unzipped bytes).

    Raises:
        LimitExceeded: over the limit; states the sum, the limit and the three largest parts.
    """
    total = sum(parts.values())
    if total > UNZIPPED_LIMIT_BYTES:
        largest = sorted(parts.items(), key=lambda part: -part[1])[:3]
        listed = ", ".join(f"{name} {size:,}" for name, size in largest)
        raise LimitExceeded(
            f"function and layers are {total:,} bytes unzipped; AWS Lambda allows {UNZIPPED_LIMIT_BYTES:,}. "
            f"The largest parts: {listed}"
        )
    return total


def unzipped_bytes(path: Path) -> int:
    """Return what a zip archive, or a folder, weighs unzipped.

    Raises:
        InvalidInput: neither a folder nor a zip archive.
    """
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    try:
        with zipfile.ZipFile(path) as archive:
            return sum(entry.file_size for entry in archive.infolist())
    except (OSError, zipfile.BadZipFile) as error:
        raise InvalidInput(f"{path.name} is neither a folder nor a zip archive: {error}") from error
