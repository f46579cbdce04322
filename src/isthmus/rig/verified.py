"""Which files were read and had which digest, so that the next job reads none of them again.

A file counts as the one that was read as long as none of its ``Facts`` changed. A memory that cannot be read or
written is none: then files are read again, and nothing else happens.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType

import msgspec

from isthmus.ports import Clock
from isthmus.rig.data_roots import Facts, Found

NAME = "verified.db"
MAX_FILES = 1_000_000
"""About 300 MB; with more, what was remembered is forgotten."""
RECENT_NS = 2_000_000_000
"""A file that was changed this shortly before it was read could change again within one tick of its file system's
clock, and look the same: it is not remembered. Two seconds is the coarsest tick there is (FAT)."""
TABLE = "CREATE TABLE IF NOT EXISTS files (path BLOB PRIMARY KEY, facts TEXT NOT NULL, sha256 TEXT NOT NULL)"


class Verified:
    """The memory of one agent, in its folder. Entered by one attempt at a time, from one thread, once it has looked
    for its files and before it reads a byte of them."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._path = folder / NAME
        self._clock = clock
        self._since_ns = 0
        self._memory: sqlite3.Connection | None = None
        self._fresh: list[tuple[bytes, str, str]] = []

    def __enter__(self) -> Verified:
        self._since_ns = int(self._clock.now() * 1e9)
        with contextlib.suppress(OSError, sqlite3.Error):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._memory = sqlite3.connect(self._path)
            self._memory.execute(TABLE)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """What was read is remembered, also when the attempt did not come to its end."""
        if self._memory is None:
            return
        with contextlib.suppress(sqlite3.Error), self._memory as memory:
            ((count,),) = memory.execute("SELECT count(*) FROM files")
            if count > MAX_FILES:
                memory.execute("DELETE FROM files")
            memory.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", self._fresh)
        self._memory.close()
        self._memory = None

    def known(self, files: Iterable[Found]) -> Mapping[Path, str]:
        """Return the digests of those that were read before and have not changed since."""
        found: dict[Path, str] = {}
        if self._memory is None:
            return found
        with contextlib.suppress(sqlite3.Error):
            for file in files:
                key = (os.fsencode(file.path), _text(file.facts))
                rows = self._memory.execute("SELECT sha256 FROM files WHERE path = ? AND facts = ?", key)
                for (sha256,) in rows:
                    found[file.path] = sha256
        return found

    def remember(self, file: Found, sha256: str) -> None:
        """Note the digest that a file had."""
        # Both: a copy can bring an old modification time along.
        if self._since_ns - max(file.facts.modified_ns, file.facts.changed_ns) > RECENT_NS:
            self._fresh.append((os.fsencode(file.path), _text(file.facts), sha256))


def _text(facts: Facts) -> str:
    # As text: numbers of inodes need 64 bits without a sign, and SQLite's have one.
    return msgspec.json.encode(facts).decode()
