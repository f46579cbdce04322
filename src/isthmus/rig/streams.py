"""Feeds a running script: fetches the files of its channels, each verified, and has a process write them into pipes.

The Pipe mode of SageMaker ("How Amazon SageMaker provides training information", Training Data): a named pipe for each
pass of a channel, ``<channel>_<epoch>``, that a script reads to its end or closes early; then it opens the next. The
files of a channel come in the order of the dataset's manifest. Why so: docs/adr/0039.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

from isthmus.errors import AttemptLost, DigestMismatch, Unavailable
from isthmus.ports import GoOn, Threads
from isthmus.rig import feeder
from isthmus.rig.cache import CachedFile
from isthmus.rig.feeder import FileFacts
from isthmus.rig.services import MAX_BACKOFF_SECONDS, Report


class Source(Protocol):
    """Where files come from that are not there yet: ``FileCache``, or a test's own."""

    def hand_out(self, files: Sequence[CachedFile], go_on: GoOn) -> Generator[Path]: ...


@dataclass(frozen=True)
class Stream:
    """One channel: its files in their order, by name; either to be fetched, or (``there``) lying where they are read,
    as they were when they were verified."""

    names: Sequence[str]
    files: Sequence[CachedFile] = ()
    there: Sequence[tuple[Path, FileFacts]] = ()


class _Closing(Exception):
    """The script has ended; nothing more is needed."""


class Streams:
    """Feeds the ``channels`` of one script from when it is entered until it is left, and never longer.

    ``folder`` is where the pipes lie; ``on_failure`` is called once, from another thread, when the script cannot go on.
    Leaving it raises what that was; a failure of the rig's (AttemptLost) or of the data (DigestMismatch, MissingFile).
    """

    def __init__(
        self,
        channels: Mapping[str, Stream],
        folder: Path,
        source: Source,
        threads: Threads,
        report: Report,
        *,
        record_io: bool = False,
        retry_seconds: float = 1.0,
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        self._channels = dict(channels)
        self._folder = folder
        self._source = source
        self._threads = threads
        self._report = report
        self._record_io = record_io
        self._retry_seconds = retry_seconds
        self._on_failure = on_failure
        self._closing = threads.flag()
        self._lock = threading.Lock()
        self._arrived = dict.fromkeys(channels, 0)
        self._opened: frozenset[str] = frozenset()
        self._needs: dict[str, int] = {}
        self._away = ""
        self._failure: Exception | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._joins: list[Callable[[], None]] = []

    def __enter__(self) -> Streams:
        """Make the first pipes, and begin to fetch.

        Raises:
            OSError: a pipe cannot be made, or no process started.
        """
        for name in self._channels:
            os.mkfifo(self._folder / feeder.pipe_name(name, 0), 0o600)
        self._process = process = _start(self._folder, self._channels, self._record_io)
        self._joins = [
            self._threads.start("feeder-listens", lambda: self._guard(lambda: self._listen(process))),
            self._threads.start("feeder-fetches", lambda: self._guard(self._fetch_all)),
        ]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it. What kept the script from going on is raised in place of what it led to."""
        process = self._process
        if process is not None and process.poll() is not None:
            self._fail(
                AttemptLost(f"the process that feeds the script ended with exit code {process.returncode}")
            )
        self._closing.set()
        if process is not None:
            process.kill()
        for join in self._joins:
            join()
        if process is not None:
            _end(process)
        if self._failure is not None and (kind is None or issubclass(kind, Exception)):
            raise self._failure from error

    @property
    def process_id(self) -> int | None:
        """The process id of what writes the pipes, once this was entered."""
        return self._process.pid if self._process else None

    def starved(self) -> str:
        """Return why a script that ended may have had too little: a file that it waited for when the network was away;
        or an empty text."""
        with self._lock:
            waits = any(number >= self._arrived[name] for name, number in self._needs.items())
            return self._away if waits else ""

    def _guard(self, run: Callable[[], None]) -> None:
        """A thread that ended silently would leave the script waiting for ever."""
        try:
            run()
        except _Closing:
            pass
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        with self._lock:
            if self._failure is not None or self._closing.is_set():
                return
            self._failure = error
        self._report("the input failed", error=str(error))
        self._on_failure()

    def _go_on(self) -> None:
        if self._closing.is_set():
            raise _Closing

    def _fetch_all(self) -> None:
        """Fetch what is missing, waiting for the network as long as the script lives."""
        self._hand_over_what_is_there()
        wait_seconds = self._retry_seconds
        while any(self._left().values()):
            before = sum(self._arrived.values())
            try:
                self._fetch()
            except Unavailable as error:
                self._go_on()
                with self._lock:
                    self._away = str(error)
                if sum(self._arrived.values()) > before:
                    wait_seconds = self._retry_seconds
                self._report("waiting for a service", error=str(error), wait_seconds=wait_seconds)
                self._closing.wait(wait_seconds)
                self._go_on()
                wait_seconds = min(2 * wait_seconds, MAX_BACKOFF_SECONDS)
        self._report("all input is here", files=sum(self._arrived.values()))

    def _hand_over_what_is_there(self) -> None:
        for name, stream in self._channels.items():
            for path, facts in stream.there:
                self._arrive(name, path, facts)

    def _left(self) -> dict[str, Sequence[CachedFile]]:
        return {
            name: stream.files[self._arrived[name] :] if stream.files else ()
            for name, stream in self._channels.items()
        }

    def _favoured(self) -> frozenset[str]:
        """Return the channels that the script reads, if it does not read all of which something is to be fetched."""
        coming = {name for name, stream in self._channels.items() if self._arrived[name] < len(stream.files)}
        return frozenset() if coming <= self._opened else self._opened & coming

    def _fetch(self) -> None:
        """Fetch in the best order for who reads now; return when all is here, or another order has become better."""
        opened, favoured = self._opened, self._favoured()
        order = in_order(self._left(), favoured)
        with contextlib.closing(self._source.hand_out([file for _, file in order], self._go_on)) as paths:
            for (name, _), path in zip(order, paths, strict=True):
                self._go_on()
                self._arrive(name, path, feeder.facts_of(path.stat()))
                if self._opened != opened and self._favoured() != favoured:
                    return
                opened = self._opened

    def _arrive(self, name: str, path: Path, facts: FileFacts) -> None:
        with self._lock:
            self._arrived[name] += 1
            self._away = ""
        self._tell(feeder.Arrival(name, str(path), facts))

    def _tell(self, words: object) -> None:
        if self._process is None or self._process.stdin is None:
            return
        # Whoever hears that the feeder has ended says so.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(words).encode() + b"\n")
            self._process.stdin.flush()

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        for line in process.stdout or ():
            kind, name, *more = json.loads(line)
            if kind == "opened":
                self._opened |= {name}
            elif kind == "waits":
                with self._lock:
                    self._needs[name] = int(more[0])
            else:
                file = self._channels[name].names[int(more[0])]
                self._fail(DigestMismatch(f"{file} cannot be handed on to the script: {more[1]}"))
        self._fail(AttemptLost(f"the process that feeds the script ended with exit code {process.wait()}"))


def in_order(
    left: Mapping[str, Sequence[CachedFile]], opened: frozenset[str]
) -> list[tuple[str, CachedFile]]:
    """Return in which order files are fetched best: first of the channels that a script has opened, in equal shares of
    each; then of the others. Within a channel they keep their order."""

    def shares(names: Sequence[str]) -> Iterator[tuple[str, CachedFile]]:
        placed = [
            [((number + 1) / len(left[name]), name, file) for number, file in enumerate(left[name])]
            for name in names
        ]
        merged = heapq.merge(*placed, key=lambda entry: (entry[0], entry[1]))
        return ((name, file) for _, name, file in merged)

    names = sorted(left)
    return [
        *shares([name for name in names if name in opened]),
        *shares([name for name in names if name not in opened]),
    ]


def _start(folder: Path, channels: Mapping[str, Stream], record_io: bool) -> subprocess.Popen[bytes]:
    order = {
        "folder": str(folder),
        "record_io": record_io,
        "channels": {name: len(stream.names) for name, stream in channels.items()},
    }
    process = subprocess.Popen(
        [sys.executable, "-I", "-m", feeder.__name__],
        cwd="/",
        env={name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # Of its own: what is sent to the agent's group is the agent's to obey.
        start_new_session=True,
    )
    if process.stdin is not None:
        process.stdin.write(json.dumps(order).encode() + b"\n")
        process.stdin.flush()
    return process


def _end(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
    process.wait()
