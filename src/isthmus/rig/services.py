"""What an agent works with: the control plane's ports, its own settings, and patience."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from isthmus.errors import Unavailable
from isthmus.ports import BlobStore, Clock, JobQueue, Records, Reporter, Tasks, Threads
from isthmus.sync.download import CONNECTIONS

MAX_BACKOFF_SECONDS = 30.0

Report = Callable[..., None]
"""Gets an event's name and its fields, for a log."""
T = TypeVar("T")


@dataclass(frozen=True)
class Services:
    """The control plane as a rig sees it, and the machine's clock and threads."""

    queue: JobQueue
    records: Records
    tasks: Tasks
    blobs: BlobStore
    reporter: Reporter
    clock: Clock
    threads: Threads


@dataclass(frozen=True)
class RigSettings:
    """``folder`` holds the cache, the attempts, the spool, results and the checkpoints of unfinished jobs.

    ``settle_seconds``: what an agent that starts waits for a further message before it chooses.
    ``token_seconds`` bounds the wait between taking the work and the training's own token.
    ``mirror_seconds``: how often checkpoints are looked at; ``still_seconds``: for how long nothing of them
    may change before they are copied. ``mark_seconds`` bounds the wait for the reason why nobody waits for
    an attempt any more. ``bucket_zone``: where the bucket lies, as a data policy names it. ``accelerators``:
    how many GPUs the agent has; what needs more is left to another one. None: it takes whatever comes.
    ``cache_folder``: another place for the cache, which several agents may share; ``cache_bytes``: its limit
    (None: half of what the disk has for it); ``data_roots``: by name, folders whose datasets are read in place;
    ``connections``: downloads at once, with one no thread is started. ``joules``: what counts those that the machine
    takes, where something tells them.
    """

    rig: str
    folder: Path
    receive_seconds: int = 20
    settle_seconds: int = 1
    poll_seconds: float = 1.0
    token_seconds: float = 300.0
    mirror_seconds: float = 5.0
    still_seconds: float = 0.5
    mark_seconds: float = 15.0
    bucket_zone: str = ""
    accelerators: int | None = None
    cache_folder: Path | None = None
    cache_bytes: int | None = None
    data_roots: Mapping[str, Path] = field(default_factory=dict)
    connections: int = CONNECTIONS
    joules: Callable[[], float] | None = None


def persistently(call: Callable[[], T], clock: Clock, give_up: Callable[[], bool], report: Report) -> T:
    """Call until the service answers, waiting longer each time, up to half a minute.

    Raises:
        Unavailable: ``give_up`` said that there is no point any more.
    """
    wait_seconds = 1.0
    while True:
        try:
            return call()
        except Unavailable as error:
            if give_up():
                raise
            report("waiting for a service", error=str(error), wait_seconds=wait_seconds)
        clock.sleep(wait_seconds)
        wait_seconds = min(2 * wait_seconds, MAX_BACKOFF_SECONDS)
