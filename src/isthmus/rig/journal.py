"""The journal of agents before the spool: the one attempt that such an agent was running when it ended.

Read once, by ``spool.Spool.entries``, and written no more.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from isthmus import documents
from isthmus.errors import InvalidDocument


class JournalEntry(msgspec.Struct, frozen=True, kw_only=True):
    """The attempt, as those agents wrote it."""

    job_key: str
    fencing: int
    run_id: str


class Journal:
    """One entry in one file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> JournalEntry | None:
        """Return the entry, or None if there is none that can be read."""
        try:
            return documents.decode(JournalEntry, self._path.read_bytes(), "the journal")
        except (FileNotFoundError, InvalidDocument):
            return None

    def clear(self) -> None:
        self._path.unlink(missing_ok=True)
