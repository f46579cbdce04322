"""A SQLite file that keeps what was committed, over a power cut too.

In WAL mode a transaction that was committed with ``synchronous=FULL`` survives a power cut; with NORMAL it may be
rolled back (sqlite.org, "PRAGMA synchronous").
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

BUSY_SECONDS = 10.0
"""A command of a person may write while an agent does."""


def open_file(path: Path, *, version: int, statements: str) -> sqlite3.Connection:
    """Open a file, with the folders above it; in autocommit, for any thread, one at a time.

    ``statements`` bring a file of an earlier version, or a new one (version 0), to ``version``, in one transaction.

    Raises:
        sqlite3.Error, OSError: it cannot be used, or a newer version wrote it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        file.execute("PRAGMA journal_mode = WAL")
        file.execute("PRAGMA synchronous = FULL")
        (found,) = file.execute("PRAGMA user_version").fetchone()
        if found > version:
            raise sqlite3.DatabaseError(
                f"a newer isthmus wrote it, as version {found}; this one reads {version}"
            )
        if found < version:
            file.executescript(f"BEGIN IMMEDIATE;{statements}PRAGMA user_version = {version};COMMIT")
    except BaseException:
        file.close()
        raise
    return file
