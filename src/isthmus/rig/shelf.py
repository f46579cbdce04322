"""The files of a rig's cache by age, and how room is made: least recently used first, never what is in use.

The order of use is a file's access time, set by hand: the modification time belongs to the script that reads the file
through a link. It is no wall clock, which may jump, but a count that only rises: the greater of the time and one more
than the last stamp, which the cache's marker keeps for all agents of the machine.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from isthmus.errors import EnvironmentProblem
from isthmus.model.units import GIB, format_bytes
from isthmus.sync.transfer import PART, notes_of

SHARE = 0.5
"""Of the disk's free bytes and the cache's own: what a cache takes when no limit is set."""
SPARE_BYTES = GIB
"""Left free for what an attempt writes."""
MARKER = "last-use"


@dataclass(frozen=True)
class Entry:
    """A file of the cache. ``in_use``: a running attempt has a link to it, or somebody fetches it."""

    path: Path
    size_bytes: int
    used_ns: int
    in_use: bool


class Shelf:
    """The folder of a cache, with ``limit_bytes`` for what is in it (None: a share of the free disk)."""

    def __init__(self, root: Path, limit_bytes: int | None = None, *, spare_bytes: int = SPARE_BYTES) -> None:
        self.root = root
        self._limit_bytes = limit_bytes
        self._spare_bytes = spare_bytes

    def path(self, sha256: str) -> Path:
        """Where the file with that digest lies."""
        return self.root / sha256[:2] / sha256

    @property
    def partials(self) -> Path:
        """Where files lie until they are whole."""
        return self.root / "partial"

    def part(self, sha256: str) -> Path:
        """Where the file with that digest lies until it is whole."""
        return self.partials / f"{sha256}{PART}"

    def touch(self, path: Path) -> None:
        """Make a file the one used last; it may be gone."""
        marker = self.root / MARKER
        with contextlib.suppress(FileNotFoundError):
            facts = path.stat()
            marker.touch(exist_ok=True)
            stamp = max(time.time_ns(), marker.stat().st_mtime_ns + 1)
            os.utime(marker, ns=(stamp, stamp))
            os.utime(path, ns=(stamp, facts.st_mtime_ns))

    def entries(self) -> list[Entry]:
        """Return what is in the cache, that which was used longest ago first."""
        found = []
        for path in (*self.root.glob("??/*"), *self.partials.glob(f"*{PART}")):
            with contextlib.suppress(FileNotFoundError):
                facts = path.stat()
                in_use = facts.st_nlink > 1 or (path.suffix == PART and _is_locked(path))
                found.append(Entry(path, facts.st_blocks * 512, facts.st_atime_ns, in_use))
        return sorted(found, key=lambda entry: entry.used_ns)

    def make_room(self, need_bytes: int, keep: frozenset[Path]) -> int:
        """Remove files until ``need_bytes`` more fit; return the bytes removed. Nothing of ``keep`` goes.

        Files of which another attempt has a link are not counted as room: removing one frees nothing.

        Raises:
            EnvironmentProblem: that much cannot be had; nothing was removed.
        """
        entries, free = self.entries(), shutil.disk_usage(self.root).free
        used = sum(entry.size_bytes for entry in entries)
        limit = int(SHARE * (free + used)) if self._limit_bytes is None else self._limit_bytes
        excess = max(used + need_bytes - limit, need_bytes + self._spare_bytes - free, 0)
        old = [entry for entry in entries if not entry.in_use and entry.path not in keep]
        can_go = sum(entry.size_bytes for entry in old)
        if excess > can_go:
            raise EnvironmentProblem(
                f"the cache {self.root} needs {format_bytes(need_bytes)} more, and can make room for "
                f"{format_bytes(max(need_bytes + can_go - excess, 0))}: it may hold {format_bytes(limit)}, "
                f"{format_bytes(used - can_go)} of it are in use, and {format_bytes(free)} of the disk are free "
                f"({format_bytes(self._spare_bytes)} are left for attempts); free disk or raise the cache's limit"
            )
        return sum(_remove(entry) for entry in _enough(old, excess))


def _enough(old: list[Entry], excess: int) -> Iterator[Entry]:
    for entry in old:
        if excess <= 0:
            return
        excess -= entry.size_bytes
        yield entry


def _remove(entry: Entry) -> int:
    """Another agent may have removed it, or linked it a moment ago: then its bytes stay with that link."""
    entry.path.unlink(missing_ok=True)
    if entry.path.suffix == PART:
        notes_of(entry.path).unlink(missing_ok=True)
    return entry.size_bytes


def _is_locked(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
