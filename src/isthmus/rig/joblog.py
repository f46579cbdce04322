"""A training's log that cannot fill the disk: its beginning and its end are kept, and what lies between is counted."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

from isthmus.model.units import MIB

MAX_LOG_BYTES = 64 * MIB


class JobLog:
    """Writes ``path``; what is more than ``head_bytes`` goes beside it, and its end comes back to it, with a mark.

    Two files of half of ``tail_bytes`` take turns: between half and all of it is kept.
    """

    def __init__(self, path: Path, *, head_bytes: int, tail_bytes: int) -> None:
        self._path = path
        self._parts = [path.with_name(f"{path.name}.{number}") for number in (0, 1)]
        self._head_bytes = head_bytes
        self._part_bytes = tail_bytes // 2
        self._file = path.open("wb")
        self._written = 0
        self._dropped = 0
        self._in_tail = False

    def __enter__(self) -> JobLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.close()

    def write(self, data: bytes) -> None:
        """Append, and let whoever follows the log see it."""
        limit = self._part_bytes if self._in_tail else self._head_bytes
        if self._written and self._written + len(data) > limit:
            self._turn()
        self._file.write(data)
        self._file.flush()
        self._written += len(data)

    def _turn(self) -> None:
        """Go on in the older part; what is in it is dropped."""
        self._file.close()
        older, newer = self._parts
        if older.exists():
            self._dropped += older.stat().st_size
            # A new file, not the old one emptied: who follows the log tells them apart.
            older.unlink()
        self._parts = [newer, older]
        self._file = older.open("wb")
        self._written, self._in_tail = 0, True

    def close(self) -> None:
        """Put the end behind the beginning."""
        self._file.close()
        with self._path.open("ab") as log:
            if self._dropped:
                log.write(f"isthmus: {self._dropped} bytes of the log are left out here\n".encode())
            for part in self._parts:
                if part.exists():
                    with part.open("rb") as file:
                        while chunk := file.read(MIB):
                            log.write(chunk)
                    os.unlink(part)
