"""What a disk lacks, said by name: a rig's folder can be full, or mounted read-only, at any moment."""

from __future__ import annotations

import errno
from pathlib import Path

from isthmus.errors import EnvironmentProblem

LACKS = {
    errno.EROFS: "is mounted read-only: mount it for writing",
    errno.ENOSPC: "is full: free some of it",
    errno.EDQUOT: "is full for this user (quota): free some of it",
}


def named(error: OSError, path: Path) -> EnvironmentProblem | None:
    """Return what the disk of ``path`` lacks, as a sentence; None: the error has another reason."""
    lacks = LACKS.get(error.errno or 0)
    return EnvironmentProblem(f"{path} is on a disk that {lacks}, or name another folder") if lacks else None
