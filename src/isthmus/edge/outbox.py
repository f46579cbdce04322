"""The outbox of a device: results wait here, whatever happens to the network or the power, until the cloud has them.

One SQLite file (``isthmus.wal``). It is bounded: when it is full, what its policy names is dropped, and counted. A
result is removed once the cloud said that it has it, and the cloud takes each number once
(``workflows.ingest_results``): sent again, it has no further effect.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from isthmus import documents, wal
from isthmus.errors import EnvironmentProblem, InvalidInput, PayloadTooLarge
from isthmus.model.results import MAX_BATCH_BYTES, MAX_RESULT_BYTES, Batch, Numbered, Result
from isthmus.model.units import MIB, format_bytes

Drop = Literal["oldest", "priority"]
"""Who goes when it is full: the oldest; or the oldest of the lowest priority there is."""

NAME = "outbox.db"
VERSION = 1
OVERHEAD_BYTES = 64
"""Of a result in the file and in a batch, beside its document: its number, its row, its index."""
TABLES = """
CREATE TABLE life (
  only INTEGER PRIMARY KEY CHECK (only = 1), outbox TEXT NOT NULL, used INTEGER NOT NULL, held INTEGER NOT NULL,
  dropped INTEGER NOT NULL);
CREATE TABLE results (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT, priority INTEGER NOT NULL, size INTEGER NOT NULL, document BLOB NOT NULL);
CREATE INDEX by_priority ON results (priority, sequence);
"""
ORDERS: dict[Drop, str] = {"oldest": "sequence", "priority": "priority, sequence"}


class State(msgspec.Struct, frozen=True):
    """What waits: ``held`` results of ``used_bytes``; ``dropped`` were, since the outbox was made."""

    outbox: str
    held: int
    used_bytes: int
    dropped: int


class Outbox:
    """Results of one ``device``, at most ``limit_bytes`` of them. Safe to share between threads.

    Every method raises EnvironmentProblem when the file cannot be written or read.
    """

    def __init__(
        self, folder: Path, device: str, *, limit_bytes: int = 256 * MIB, drop: Drop = "oldest"
    ) -> None:
        self._path = folder / NAME
        self._device = device
        self._limit = limit_bytes
        self._order = ORDERS[drop]
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def put(self, results: Sequence[Result]) -> int:
        """Keep results in one transaction, all of them or none; return how many had to go for them. With ``priority``
        these may be among those, if nothing that waits is of less.

        Each transaction waits for the disk: what comes within the same moment is better put together.

        Raises:
            PayloadTooLarge: a result is larger than ``MAX_RESULT_BYTES``, or all are than the outbox.
            InvalidInput: its outputs are not JSON.
        """
        rows = [self._row(result) for result in results]
        size = sum(row[1] for row in rows)
        if size > self._limit:
            raise PayloadTooLarge(
                f"{len(rows)} results need {format_bytes(size)}; the outbox holds {format_bytes(self._limit)}: "
                "give it a larger limit, or put fewer at once"
            )
        with self._transaction() as file:
            file.executemany("INSERT INTO results (priority, size, document) VALUES (?, ?, ?)", rows)
            file.execute("UPDATE life SET used = used + ?, held = held + ?", (size, len(rows)))
            return self._drop(file)

    def batch(self, *, max_bytes: int = MAX_BATCH_BYTES, max_results: int = 10_000) -> Batch | None:
        """Return the oldest results that wait, as many as fit; None when none does. They wait on until ``remove``."""
        chosen: list[Numbered] = []
        size = 0
        with self._transaction() as file:
            outbox, dropped = file.execute("SELECT outbox, dropped FROM life").fetchone()
            rows = file.execute(
                "SELECT sequence, size, document FROM results ORDER BY sequence LIMIT ?", (max_results,)
            )
            for sequence, needs, document in rows:
                if chosen and size + needs > max_bytes:
                    break
                result = documents.decode(Result, document, f"result {sequence} of the outbox")
                chosen.append(Numbered(sequence=sequence, result=result))
                size += needs
        if not chosen:
            return None
        return Batch(device=self._device, outbox=outbox, results=chosen, dropped=dropped)

    def remove(self, last: int) -> None:
        """The cloud has everything up to the number ``last``."""
        with self._transaction() as file:
            size, count = file.execute(
                "SELECT COALESCE(SUM(size), 0), COUNT(*) FROM results WHERE sequence <= ?", (last,)
            ).fetchone()
            file.execute("DELETE FROM results WHERE sequence <= ?", (last,))
            file.execute("UPDATE life SET used = used - ?, held = held - ?", (size, count))

    def state(self) -> State:
        """Return what waits."""
        with self._transaction() as file:
            outbox, used, held, dropped = file.execute(
                "SELECT outbox, used, held, dropped FROM life"
            ).fetchone()
        return State(outbox, held, used, dropped)

    def close(self) -> None:
        """Close the file until it is needed again."""
        with self._lock:
            self._give_up()

    def _row(self, result: Result) -> tuple[int, int, bytes]:
        outputs = bytes(result.outputs)
        if len(outputs) > MAX_RESULT_BYTES:
            raise PayloadTooLarge(
                f"a result of {result.model} has outputs of {format_bytes(len(outputs))}; at most "
                f"{format_bytes(MAX_RESULT_BYTES)} are kept: send labels and scores, not tensors"
            )
        try:
            msgspec.json.decode(outputs)
        except msgspec.DecodeError as error:
            raise InvalidInput(f"the outputs of a result of {result.model} must be JSON: {error}") from error
        document = msgspec.json.encode(result)
        documents.decode(Result, document, f"a result of {result.model}")
        return result.priority, len(document) + OVERHEAD_BYTES, document

    def _drop(self, file: sqlite3.Connection) -> int:
        """Drop until the limit holds; return how many results that took."""
        (used,) = file.execute("SELECT used FROM life").fetchone()
        going, freed = [], 0
        rows = file.execute(f"SELECT sequence, size FROM results ORDER BY {self._order}")
        while used - freed > self._limit:
            sequence, size = next(rows)
            going.append((sequence,))
            freed += size
        rows.close()
        if going:
            file.executemany("DELETE FROM results WHERE sequence = ?", going)
            file.execute(
                "UPDATE life SET used = used - ?, held = held - ?, dropped = dropped + ?",
                (freed, len(going), len(going)),
            )
        return len(going)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Lend the connection to one caller at a time, inside a transaction."""
        with self._lock:
            try:
                file = self._connection or self._connect()
                with file:
                    file.execute("BEGIN IMMEDIATE")
                    yield file
            except (sqlite3.Error, OSError) as error:
                self._give_up()
                raise EnvironmentProblem(
                    f"{self._path} cannot be used ({error}), and without it results could be lost: free space on its "
                    "disk, make its folder writable, or move the file away if it is damaged"
                ) from error

    def _connect(self) -> sqlite3.Connection:
        life = f"INSERT INTO life VALUES (1, '{uuid.uuid4().hex}', 0, 0, 0);"
        self._connection = wal.open_file(self._path, version=VERSION, statements=TABLES + life)
        return self._connection

    def _give_up(self) -> None:
        """A connection after an error may be inside a transaction: the next call opens another."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None
