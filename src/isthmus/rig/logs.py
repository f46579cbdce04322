"""A training's log on this machine, as it grows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from isthmus.errors import MissingFile
from isthmus.ports import Clock

LOOK_SECONDS = 0.5
CHUNK_BYTES = 65_536


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
    return max(logs, key=lambda path: path.stat().st_mtime)


def read(path: Path, tail_bytes: int | None = None) -> Iterator[bytes]:
    """Yield the log's bytes, or its last ``tail_bytes``."""
    with path.open("rb") as file:
        if tail_bytes is not None:
            file.seek(max(0, path.stat().st_size - tail_bytes))
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def follow(path: Path, clock: Clock, over: Callable[[], bool]) -> Iterator[bytes]:
    """Yield the log's bytes as they come, until ``over`` says that no more will, or the log is removed."""
    with path.open("rb") as file:
        while True:
            ended = (
                over() or not path.exists()
            )  # looked at before the read: what was written until then is read
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
            if ended:
                return
            clock.sleep(LOOK_SECONDS)
