"""What the agent must remember over its own death, over a network that is away, and over a power cut.

One SQLite file in the rig's folder: the attempts that it took, how each ended until that is delivered, and
orphans, which are results that came too late to count (``isthmus.wal``). An agent of an earlier version kept
one attempt in ``journal.json``: it is taken over.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from isthmus import documents, wal
from isthmus.errors import EnvironmentProblem
from isthmus.model.messages import Outcome, Work
from isthmus.rig.journal import Journal

NAME = "spool.db"
VERSION = 1
TABLES = """
CREATE TABLE IF NOT EXISTS attempts (
  job_key TEXT NOT NULL, fencing INTEGER NOT NULL, document BLOB NOT NULL, PRIMARY KEY (job_key, fencing));
CREATE TABLE IF NOT EXISTS orphans (
  job_key TEXT NOT NULL, fencing INTEGER NOT NULL, document BLOB NOT NULL, PRIMARY KEY (job_key, fencing));
CREATE TABLE IF NOT EXISTS probes (number INTEGER NOT NULL);
"""

T = TypeVar("T")


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt whose message is deleted: nobody but this rig can end it before the heartbeat does.

    ``work`` is None in what an agent of an earlier version left. ``outcome`` is how it ended: it waits to
    be delivered.
    """

    job_key: str
    fencing: int
    run_id: str
    work: Work | None = None
    outcome: Outcome | None = None


class Orphan(msgspec.Struct, frozen=True, kw_only=True):
    """A result that nobody waited for any more when it could be delivered; it is never applied.

    ``path`` is the attempt's folder on the rig, ``output`` the bucket's prefix where the files are there.
    ``cause`` says who had the lease by then; ``since`` is in UTC. ``told``: the table knows of it.
    """

    job_key: str
    fencing: int
    rig: str
    cause: str
    since: str
    path: str = ""
    output: str = ""
    metrics: dict[str, float] = {}
    seconds: float = 0.0
    told: bool = False


def folder_name(attempt: Entry | Orphan) -> str:
    """Return the name of the folder where an attempt works, and of that where its result waits."""
    return f"{attempt.job_key}-{attempt.fencing}"


class Spool:
    """The rig's memory. Every method raises EnvironmentProblem when the folder cannot be written or read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / NAME
        self._journal = Journal(folder / "journal.json")
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._finalizer: weakref.finalize[..., Spool] | None = None

    @staticmethod
    def is_in(folder: Path) -> bool:
        """Whether an agent worked in a folder; looking makes none."""
        return (folder / NAME).is_file()

    def check(self) -> None:
        """Ask whether something can be remembered at all; nothing is."""
        with self._open() as spool:
            spool.execute("BEGIN IMMEDIATE")
            spool.execute("INSERT INTO probes VALUES (1)")
            spool.execute("DELETE FROM probes")
            spool.execute("COMMIT")

    def begin(self, entry: Entry) -> None:
        """Remember an attempt from now on, or what is new of it."""
        self._write("attempts", entry)

    def end(self, entry: Entry, outcome: Outcome) -> Entry:
        """Remember how an attempt ended until ``remove``; return what is remembered."""
        ended = msgspec.structs.replace(entry, outcome=outcome)
        self._write("attempts", ended)
        return ended

    def remove(self, entry: Entry) -> None:
        """An attempt is over and delivered."""
        self._delete("attempts", entry.job_key, entry.fencing)

    def entries(self) -> list[Entry]:
        """Return what an agent that died, or was cut off, left; the oldest first."""
        if (left := self._journal.read()) is not None:
            self.begin(Entry(job_key=left.job_key, fencing=left.fencing, run_id=left.run_id))
            self._journal.clear()
        return self._read("attempts", Entry)

    def keep(self, orphan: Orphan) -> None:
        """Keep a result for a person, or what is new of it."""
        self._write("orphans", orphan)

    def orphans(self) -> list[Orphan]:
        """Return what waits for a person; the oldest first."""
        return self._read("orphans", Orphan)

    def files_of(self, orphan: Orphan) -> Path:
        """Return where an orphan's files are in this folder, which may have been moved since."""
        kept = self._folder / "results" / folder_name(orphan)
        earlier = self._folder / "attempts" / folder_name(orphan)
        return earlier if earlier.exists() and not kept.exists() else kept

    def sweep(self) -> None:
        """Remove the folders of attempts that nobody will come back to. They are known by their names: the
        rig's folder may have another path than when they were made."""
        left: list[Entry | Orphan] = [*self.orphans(), *self.entries()]
        kept = {folder_name(attempt) for attempt in left}
        for folder in [*self._folder.glob("attempts/*"), *self._folder.glob("results/*")]:
            if folder.name not in kept:
                shutil.rmtree(folder, ignore_errors=True)

    def forget(self, orphan: Orphan) -> None:
        """Somebody took it, or wants it no more."""
        self._delete("orphans", orphan.job_key, orphan.fencing)

    def close(self) -> None:
        """Close the file until it is needed again."""
        with self._lock:
            if self._finalizer is not None:
                self._finalizer()
            self._connection = self._finalizer = None

    def _write(self, table: str, document: Entry | Orphan) -> None:
        row = (document.job_key, document.fencing, documents.encode(document))
        with self._open() as spool:
            spool.execute(
                f"INSERT INTO {table} VALUES (?, ?, ?) "
                "ON CONFLICT (job_key, fencing) DO UPDATE SET document = excluded.document",
                row,
            )

    def _delete(self, table: str, job_key: str, fencing: int) -> None:
        with self._open() as spool:
            spool.execute(f"DELETE FROM {table} WHERE job_key = ? AND fencing = ?", (job_key, fencing))

    def _read(self, table: str, kind: type[T]) -> list[T]:
        with self._open() as spool:
            rows = spool.execute(f"SELECT document FROM {table} ORDER BY rowid").fetchall()
        return [documents.decode(kind, row[0], f"the spool's {table}") for row in rows]

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """Lend the connection to one caller at a time. Each statement is a transaction of its own."""
        with self._lock:
            try:
                if self._connection is None:
                    self._connect()
                if self._connection is not None:
                    yield self._connection
            except (sqlite3.Error, OSError) as error:
                self._give_up()
                raise EnvironmentProblem(
                    f"{self._path} cannot be used ({error}), and without it an attempt could be lost: free "
                    "space on its disk, make its folder writable, or move the file away if it is damaged"
                ) from error

    def _connect(self) -> None:
        self._connection = wal.open_file(self._path, version=VERSION, statements=TABLES)
        self._finalizer = weakref.finalize(self, self._connection.close)

    def _give_up(self) -> None:
        """A connection after an error may be inside a transaction: the next call opens another."""
        if self._finalizer is not None:
            self._finalizer()
        self._connection = self._finalizer = None
