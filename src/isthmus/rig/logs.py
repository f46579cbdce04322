"""A training's log on this machine, as it grows."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from isthmus.errors import MissingFile
from isthmus.ports import Clock

LOOK_SECONDS = 0.5
CHUNK_BYTES = 65_536
KEPT_OPEN = 3
"""Parts: the one that is read, and those that may still lie beside it."""


def log_of(folder: Path, job_key: str = "") -> Path:
    """Return the log of a job's newest attempt here, or of the newest of all when ``job_key`` is empty.

    ``job_key`` may be the beginning of one.

    Raises:
        MissingFile: no attempt of it has a log on this machine.
    """
    logs = [
        path
        for place in ("attempts", "results")
        for path in folder.glob(f"{place}/*/train.log")
        if path.parent.name.startswith(job_key) and path.is_file() and not path.is_symlink()
    ]
    if not logs:
        whose = f"of job {job_key}" if job_key else "of any job"
        raise MissingFile(
            f"{folder} has no log {whose}: an attempt's log is here while it runs, and in the bucket afterwards"
        )
    return max(logs, key=lambda path: max(part.stat().st_mtime for part in [path, *_parts(path)]))


def read(path: Path, tail_bytes: int | None = None) -> Iterator[bytes]:
    """Yield the log's bytes, or its last ``tail_bytes``; of a long one that grows still, its parts as well."""
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(part.open("rb")) for part in [path, *_parts(path)]]
        sizes = [os.fstat(file.fileno()).st_size for file in files]
        skipped = 0 if tail_bytes is None else max(0, sum(sizes) - tail_bytes)
        for file, size in zip(files, sizes, strict=True):
            file.seek(min(skipped, size))
            skipped -= min(skipped, size)
            yield from _rest(file)


def follow(path: Path, clock: Clock, over: Callable[[], bool]) -> Iterator[bytes]:
    """Yield the log's bytes as they come, until ``over`` says that no more will, or the log is removed.

    Of a log that outgrew its first part, what is written faster than it is read is left out, as in the log.
    """
    with contextlib.ExitStack() as stack:
        file: BinaryIO = stack.enter_context(path.open("rb"))
        # Held open, so that no new part can have the number of one that was read.
        read = [file]
        while True:
            # Both are looked at before the read: what was written until then is read.
            ended = over() or not path.exists()
            fresh = _fresh(path, read)
            yield from _rest(file)
            if fresh is not None:
                file = stack.enter_context(fresh)
                read = [*read, file]
                for done in read[:-KEPT_OPEN]:
                    done.close()
                read = read[-KEPT_OPEN:]
            elif ended:
                return
            else:
                clock.sleep(LOOK_SECONDS)


def _fresh(path: Path, read: list[BinaryIO]) -> BinaryIO | None:
    """Open the oldest part that has not been read; None: the writer is still in the one that was read last."""
    known = {_inode(file) for file in read}
    for part in _parts(path):
        with contextlib.suppress(FileNotFoundError):
            file = part.open("rb")
            if _inode(file) not in known:
                return file
            file.close()
    return None


def _parts(path: Path) -> list[Path]:
    """Return where a long log goes on while it is written (``JobLog``), the oldest first."""
    found = []
    for number in (0, 1):
        part = path.with_name(f"{path.name}.{number}")
        with contextlib.suppress(FileNotFoundError):
            found.append((part.lstat().st_mtime_ns, part))
    return [part for _, part in sorted(found)]


def _inode(file: BinaryIO) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino


def _rest(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(CHUNK_BYTES):
        yield chunk
