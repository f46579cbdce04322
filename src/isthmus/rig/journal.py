"""What the agent must remember over its own death: the attempt that it is running."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from isthmus import documents
from isthmus.errors import InvalidDocument


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt whose message is deleted: nobody but this rig can end it before the heartbeat does."""

    job_key: str
    fencing: int
    run_id: str


class Journal:
    """One entry in one file, replaced atomically."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, entry: Entry) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_suffix(".new")
        temporary.write_bytes(documents.encode(entry))
        os.replace(temporary, self._path)

    def read(self) -> Entry | None:
        """Return the entry, or None if there is none that can be read."""
        try:
            return documents.decode(Entry, self._path.read_bytes(), "the journal")
        except (FileNotFoundError, InvalidDocument):
            return None

    def clear(self) -> None:
        self._path.unlink(missing_ok=True)
