"""What a disk lacks, said by name: a rig's folder can be full, or mounted read-only, at any moment."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from isthmus.errors import EnvironmentProblem
from isthmus.model.units import MIB, format_bytes

MIN_FREE_BYTES = 64 * MIB
"""Below it no work is taken: what an attempt must remember would soon not fit."""

LACKS = {
    errno.EROFS: "is mounted read-only: mount it for writing",
    errno.ENOSPC: "is full: free some of it",
    errno.EDQUOT: "is full for this user (quota): free some of it",
}


def named(error: OSError, path: Path) -> EnvironmentProblem | None:
    """Return what the disk of ``path`` lacks, as a sentence; None: the error has another reason."""
    lacks = LACKS.get(error.errno or 0)
    return EnvironmentProblem(f"{path} is on a disk that {lacks}, or name another folder") if lacks else None


def check_room(folder: Path) -> None:
    """Ask whether a rig's folder has room for what an attempt must remember.

    Raises:
        EnvironmentProblem: it has not.
    """
    free = shutil.disk_usage(folder).free
    if free < MIN_FREE_BYTES:
        raise EnvironmentProblem(
            f"{folder} has {format_bytes(free)} free; an attempt needs at least {format_bytes(MIN_FREE_BYTES)}: "
            "free some space"
        )
