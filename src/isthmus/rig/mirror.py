"""Watches a training's checkpoint folder and commits what it holds, never a half-written file.

A checkpoint is taken when nothing in the folder changed for a moment. Its files are then held by hard links:
a script that writes beside and renames, as most do, may go on at once. One that writes into a file is
noticed by the file's size and time, and by the digest that the store verifies: nothing is committed then. A
file that changes at every look, a log perhaps, is left out.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import msgspec

from isthmus.errors import AttemptLost, DigestMismatch, Refused
from isthmus.model import dataset
from isthmus.ports import Threads
from isthmus.rig.cache import file_digest
from isthmus.rig.checkpoints import Checkpoints, Staged
from isthmus.rig.services import Report

Signature = tuple[int, int, int]
"""Inode, size in bytes, time of the last change in nanoseconds."""
Snapshot = dict[str, Signature]
RESTLESS_LOOKS = 6
"""A file that changed at so many looks in a row is no checkpoint."""


class Mirror:
    """Mirrors one attempt's checkpoints while it is entered, and once more by ``finish``."""

    def __init__(
        self,
        checkpoints: Checkpoints,
        threads: Threads,
        report: Report,
        *,
        every_seconds: float,
        still_seconds: float,
    ) -> None:
        self._checkpoints = checkpoints
        self._threads = threads
        self._report = report
        self._every_seconds = every_seconds
        self._still_seconds = still_seconds
        self._closed = threads.flag()
        self._off = False
        self._restless: list[set[str]] = []
        self._sent: Snapshot = {}
        self._digests: dict[tuple[str, Signature], str] = {}
        self._said = ""

    def __enter__(self) -> Mirror:
        self._join = self._threads.start("checkpoints", self._run)
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._join()

    def finish(self) -> None:
        """Commit what the folder holds now that nothing writes to it any more."""
        if not self._off:
            self._guarded(lambda: self._take(snapshot(self._checkpoints.folder)))
        shutil.rmtree(self._checkpoints.staging, ignore_errors=True)

    def tick(self) -> None:
        """Look, and say what is wrong instead of raising it."""
        if not self._off:
            self._guarded(self.look)

    def look(self) -> bool:
        """Commit a checkpoint if there is a new one that holds still; return whether one was committed.

        Raises:
            what ``Checkpoints.commit`` raises; OSError.
        """
        before = snapshot(self._checkpoints.folder)
        if before == self._sent:
            return False
        self._closed.wait(self._still_seconds)
        after = snapshot(self._checkpoints.folder)
        moving = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
        self._restless = [*self._restless, moving][-RESTLESS_LOOKS:]
        always = set.intersection(*self._restless) if len(self._restless) == RESTLESS_LOOKS else set()
        if moving - always:
            return False
        return self._take({path: signature for path, signature in after.items() if path not in always})

    def _take(self, wanted: Snapshot) -> bool:
        if not wanted or wanted == self._sent:
            return False
        if self._checkpoints.local_only:
            self._off = True
            return False
        files = self._stage(wanted)
        if files is None or not self._checkpoints.commit(files, lambda: _same(files, wanted)):
            return False
        self._sent = wanted
        self._said = ""
        return True

    def _stage(self, wanted: Snapshot) -> dict[str, Staged] | None:
        """Hold the files still; None: one of them changed meanwhile."""
        root = self._checkpoints.staging
        shutil.rmtree(root, ignore_errors=True)
        files: dict[str, Staged] = {}
        for number, (path, signature) in enumerate(wanted.items()):
            held = root / str(number)
            root.mkdir(parents=True, exist_ok=True)
            try:
                os.link(self._checkpoints.folder / path, held, follow_symlinks=False)
                # The inode says that it is the file that was looked at, whatever its path leads to by now.
                if _signature(held) != signature:
                    return None
            except (FileNotFoundError, NotADirectoryError):
                return None
            files[path] = Staged(held, self._digest(path, signature, held), signature[1])
        self._digests = {(path, wanted[path]): file.sha256 for path, file in files.items()}
        return files

    def _digest(self, path: str, signature: Signature, held: Path) -> str:
        return self._digests.get((path, signature)) or file_digest(held)

    def _run(self) -> None:
        while not self._off and not self._closed.wait(self._every_seconds):
            self.tick()

    def _guarded(self, work: Callable[[], bool]) -> None:
        """A training is never ended for its mirror: what is wrong is said, once, and tried again if it may pass."""
        try:
            work()
        except DigestMismatch:
            self._say("it changed while it was sent")
        except (AttemptLost, Refused) as error:
            self._off = True
            self._say(f"{error}; no further one is tried")
        except Exception as error:  # of any kind: the thread goes on
            self._say(f"{type(error).__name__}: {error}")

    def _say(self, reason: str) -> None:
        if reason != self._said:
            self._said = reason
            self._report("checkpoint not mirrored", reason=reason)


def snapshot(folder: Path) -> Snapshot:
    """Return the regular files of a folder, by their relative paths; links and odd names are no checkpoint."""
    found: Snapshot = {}
    for parent, _, names, handle in os.fwalk(folder, follow_symlinks=False):
        for name in names:
            relative = (Path(parent) / name).relative_to(folder).as_posix()
            with contextlib.suppress(FileNotFoundError, UnicodeEncodeError, msgspec.ValidationError):
                relative.encode()
                msgspec.convert(relative, type=dataset.Path)
                found[relative] = _signature(name, handle)
    return found


def _signature(path: Path | str, folder: int | None = None) -> Signature:
    """Return the signature of a regular file, in the open folder that is given.

    Raises:
        FileNotFoundError: it is none, or none any more: a link could lead to what the script may not see.
    """
    status = os.stat(path, dir_fd=folder, follow_symlinks=False)
    if not stat.S_ISREG(status.st_mode):
        raise FileNotFoundError(f"{path} is no regular file")
    return status.st_ino, status.st_size, status.st_mtime_ns


def _same(files: dict[str, Staged], wanted: Snapshot) -> bool:
    return all(_signature(file.path) == wanted[path] for path, file in files.items())
