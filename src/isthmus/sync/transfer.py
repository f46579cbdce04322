"""One file of a bucket: in one request, or in ranges of one version of the object, each noted when it is written."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from isthmus.errors import Conflict, DigestMismatch, MissingFile, Unavailable
from isthmus.ports import BlobInfo, BlobStore, GoOn, always
from isthmus.sync.collect import file_sha256

Step = Callable[[], "list[Step]"]
"""A part of the work, which returns what can be done next."""
LOOK_AGAIN_SECONDS = 0.05
PART = ".part"


@dataclass(frozen=True)
class Wanted:
    """An object and what it must be. ``path`` is where it goes; ``size_bytes`` None: not known, fetched in one.

    ``partials`` is a folder of the same file system for what is under way; None: beside the file. Where many files
    spread over many folders, one for all partial files is faster: a file system looks for room near the folder.
    ``read_again``: what lies at ``path`` counts only if it has the digest; else it is removed, and fetched.
    """

    key: str
    sha256: str
    path: Path
    size_bytes: int | None = None
    partials: Path | None = None
    read_again: bool = False

    @property
    def part(self) -> Path:
        """Where the bytes are written until they are all there."""
        return (self.partials or self.path.parent) / (self.path.name + PART)


def notes_of(part: Path) -> Path:
    """Where it is noted which ranges of a partial file are there."""
    return part.with_name(part.name + ".notes")


class _Origin(msgspec.Struct, frozen=True):
    """The first line of the notes; what was noted of another origin is of no use."""

    version: str
    size_bytes: int
    range_bytes: int


class Busy(Exception):
    """Somebody else fetches this file. To look again later, and meanwhile do something else: two who waited for
    each other's files would wait for ever."""


class Transfer:
    """Fetches one file by steps, which may run at the same time in several threads.

    Whoever fetches holds a lock on the partial file, also against other processes; who comes second finds the file.
    """

    def __init__(self, wanted: Wanted, blobs: BlobStore, range_bytes: int, go_on: GoOn = always) -> None:
        self.wanted = wanted
        self._go_on = go_on
        self._blobs = blobs
        self._range_bytes = range_bytes
        self._part = wanted.part
        self._notes = notes_of(wanted.part)
        self._file = -1
        self._resumed = False
        self._left: set[int] = set()
        self._guard = threading.Lock()

    def begin(self) -> list[Step]:
        """Fetch a small file; of a big one, return a step for each range that is not there yet. Raises Busy."""
        self._go_on()
        if self.wanted.read_again and self._is_right():
            return []
        self._lock()
        if self.wanted.path.exists():
            self.close()
            return []
        if self.wanted.size_bytes is None or self.wanted.size_bytes <= self._range_bytes:
            self._whole()
            return []
        origin = self._origin(self._blobs.info(self.wanted.key))
        numbers = set(range(-(-origin.size_bytes // self._range_bytes)))
        there = self._noted(origin)
        self._resumed, self._left = bool(there), numbers - there
        os.posix_fallocate(self._file, 0, origin.size_bytes)  # a full disk shows now
        if not self._left:
            return self._finish()
        return [partial(self._fetch, number, origin) for number in sorted(self._left)]

    def _is_right(self) -> bool:
        try:
            if file_sha256(self.wanted.path, self._go_on) == self.wanted.sha256:
                return True
        except FileNotFoundError:
            return False
        self.wanted.path.unlink(missing_ok=True)
        return False

    def close(self) -> None:
        """Let go of what is not finished; it stays for the next time."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _lock(self) -> None:
        """Open the partial file, and keep it from everybody else.

        Who held it before may have renamed or removed it meanwhile: then the lock is of a file without a name.
        """
        while self._file < 0:
            file = self._open()
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.stat(self._part).st_ino == os.fstat(file).st_ino:
                    self._file = file
            except FileNotFoundError:
                pass
            except BlockingIOError as error:
                raise Busy from error
            finally:
                if self._file < 0:
                    os.close(file)

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        try:
            return os.open(self._part, flags, 0o600)
        except FileNotFoundError:
            self._part.parent.mkdir(parents=True, exist_ok=True)
            return os.open(self._part, flags, 0o600)

    def _whole(self) -> None:
        os.ftruncate(self._file, 0)
        self._blobs.save(self.wanted.key, self._part, go_on=self._go_on)
        self._keep(self._digest())

    def _origin(self, info: BlobInfo | None) -> _Origin:
        wanted = self.wanted
        if info is None:
            raise MissingFile(f"{wanted.key} is not in the bucket")
        if info.size_bytes != wanted.size_bytes:
            raise DigestMismatch(
                f"{wanted.key} has {info.size_bytes} bytes, but {wanted.size_bytes} were promised"
            )
        return _Origin(info.version, info.size_bytes, self._range_bytes)

    def _noted(self, origin: _Origin) -> set[int]:
        """Return the ranges that are here already; without any of this origin, begin the notes anew."""
        with contextlib.suppress(OSError, msgspec.DecodeError, ValueError, IndexError):
            first, *lines = self._notes.read_text().split("\n")
            if msgspec.json.decode(first, type=_Origin) == origin:
                # A line that was cut off has no end: what stands after the last one does not count.
                return {int(line) for line in lines[:-1]}
        os.ftruncate(self._file, 0)
        self._notes.write_bytes(msgspec.json.encode(origin) + b"\n")
        return set()

    def _fetch(self, number: int, origin: _Origin) -> list[Step]:
        start = number * self._range_bytes
        stop = min(start + self._range_bytes, origin.size_bytes)
        try:
            self._blobs.save(
                self.wanted.key,
                self._part,
                start=start,
                stop=stop,
                version=origin.version,
                go_on=self._go_on,
            )
        except Conflict as error:
            self._notes.unlink(missing_ok=True)
            raise Unavailable(f"{self.wanted.key} was replaced while it was fetched") from error
        with self._guard:
            with self._notes.open("a") as notes:
                notes.write(f"{number}\n")
            self._left.discard(number)
            last = not self._left
        return self._finish() if last else []

    def _digest(self) -> str:
        return file_sha256(self._part, self._go_on)

    def _finish(self) -> list[Step]:
        digest = self._digest()
        self._notes.unlink(missing_ok=True)
        if digest != self.wanted.sha256 and self._resumed:
            # Notes from before a power cut can be wrong; what is fetched in one go cannot.
            self.close()
            return [self.begin]
        self._keep(digest)
        return []

    def _keep(self, digest: str) -> None:
        wanted = self.wanted
        if digest != wanted.sha256:
            self._part.unlink(missing_ok=True)
            self.close()
            raise DigestMismatch(f"{wanted.key} has the SHA-256 {digest}, but {wanted.sha256} was promised")
        os.fchmod(self._file, 0o444)
        try:
            os.replace(self._part, wanted.path)
        except FileNotFoundError:
            wanted.path.parent.mkdir(parents=True, exist_ok=True)
            os.replace(self._part, wanted.path)
        self.close()
