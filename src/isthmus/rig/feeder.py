"""Writes the files of channels into named pipes, one for each pass, for a script that reads them.

A process of its own, so that a pipe never ends before its pass does: the kernel closes a pipe with the process that
writes it, and a script takes that for the end of its data. If the agent dies, this process holds the pipes until the
script, which then is killed, reads them no more; if this process dies, the agent ends the attempt.

It imports the standard library and ``recordio.py`` alone. Its standard input brings lines of JSON: first the order
(``folder``, ``record_io``, ``channels`` with their numbers of files), then an ``Arrival`` for each file that is there
and right, of each channel in its order. It answers with lines of JSON: ``["opened", channel]``; ``["waits", channel,
number]`` when a script waits for a file that is not there yet; ``["failed", channel, number, why]``.
Linux only (``splice``).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import json
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from isthmus.rig import recordio

PIPE_BYTES = 1 << 20
"""The most that a pipe of an ordinary user holds (pipe(7), ``pipe-max-size``): what is read ahead of the script."""
COPY_BYTES = 1 << 18
LOOK_SECONDS = 0.1
OUTLAST_SECONDS = 90.0
"""As long as a warden takes at the most to end a container and then what is left of a run."""

Tell = Callable[..., None]
FileFacts = tuple[int, int, int, int]
"""Device, inode, size in bytes and time of change (ns) of a file."""


class Arrival(NamedTuple):
    """A file that is there; ``facts`` as when it was verified."""

    channel: str
    path: str
    facts: FileFacts


class Wrong(Exception):
    """A file is not what was verified; the text says how."""


def facts_of(found: os.stat_result) -> FileFacts:
    """Return what changes when a file's bytes do; links to it may come and go."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def pipe_name(channel: str, number: int) -> str:
    """Return the name of the pipe of a channel's pass, counted from 0 (SageMaker: ``channel_name_epoch_number``)."""
    return f"{channel}_{number}"


class Channel:
    """One channel: passes without end, each through a pipe of its own."""

    def __init__(self, name: str, files: int, folder: str, record_io: bool, tell: Tell) -> None:
        self.name = name
        self._files = files
        self._folder = folder
        self._record_io = record_io
        self._tell = tell
        self._there: list[Arrival] = []
        self._changed = threading.Condition()
        self._at = 0
        self.pipe: int | None = None

    def arrive(self, arrival: Arrival) -> None:
        """Take the next file."""
        with self._changed:
            self._there.append(arrival)
            self._changed.notify_all()

    def feed(self) -> None:
        """Feed pass after pass. After a failure nothing more is written, and the pipe is not ended: a script would
        take that for the end of its data."""
        try:
            for number in itertools.count():
                self._pass(number, self._make(number))
        except OSError as error:
            self._tell("failed", self.name, self._at, error.strerror or str(error))
        except Wrong as error:
            self._tell("failed", self.name, self._at, str(error))

    def _make(self, number: int) -> str:
        path = os.path.join(self._folder, pipe_name(self.name, number))
        with contextlib.suppress(FileExistsError):
            os.mkfifo(path, 0o600)
        return path

    def _pass(self, number: int, path: str) -> None:
        # Waits for a script that opens it to read.
        pipe = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        self.pipe = pipe
        self._make(number + 1)
        self._tell("opened", self.name)
        with contextlib.suppress(OSError):  # the user has as many pipes of that size as one may
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        with contextlib.suppress(BrokenPipeError):  # the script has read enough, and closed it
            for file in range(self._files):
                self._at = file
                self._hand_on(self._await(file, pipe), pipe)
        # Gone before it ends: who opened it once more would wait for nobody.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        self.pipe = None
        os.close(pipe)

    def _await(self, number: int, pipe: int) -> Arrival:
        with self._changed:
            if len(self._there) <= number:
                self._tell("waits", self.name, number)
            while len(self._there) <= number:
                self._changed.wait(LOOK_SECONDS)
                if is_left(pipe):
                    raise BrokenPipeError
            return self._there[number]

    def _hand_on(self, arrival: Arrival, pipe: int) -> None:
        file = os.open(arrival.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if facts_of(os.fstat(file)) != arrival.facts:
                raise Wrong("it was changed since it was verified")
            size_bytes = arrival.facts[2]
            if not self._record_io:
                move(file, 0, size_bytes, pipe)
                return
            for part in recordio.parts(file, size_bytes):
                write(part.head, pipe)
                move(file, part.start, part.stop, pipe)
                write(part.padding, pipe)
        finally:
            os.close(file)


def is_left(pipe: int) -> bool:
    """Whether nobody reads a pipe any more."""
    poller = select.poll()
    poller.register(pipe, 0)
    return any(event & select.POLLERR for _, event in poller.poll(0))


def write(data: bytes, pipe: int) -> None:
    """Write all of it. Raises BrokenPipeError when nobody reads."""
    while data:
        data = data[os.write(pipe, data) :]


def move(file: int, start: int, stop: int, pipe: int) -> None:
    """Write the bytes ``[start, stop)`` of a file, without copying them where its file system can.

    Raises:
        Wrong: the file ends before.
        BrokenPipeError: nobody reads.
    """
    while start < stop:
        try:
            moved = os.splice(file, pipe, stop - start, offset_src=start)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOSYS):
                raise
            data = os.pread(file, min(COPY_BYTES, stop - start), start)
            write(data, pipe)
            moved = len(data)
        if not moved:
            raise Wrong(f"it ended at byte {start}, before byte {stop}")
        start += moved


def outlast(channels: list[Channel]) -> None:
    """Hold the pipes until the script reads none of them: nobody has told it to end yet."""
    ends_at = time.monotonic() + OUTLAST_SECONDS
    while time.monotonic() < ends_at:
        held = [channel.pipe for channel in channels]
        if all(pipe is None or is_left(pipe) for pipe in held):
            return
        time.sleep(LOOK_SECONDS)


def main() -> None:
    """Obey an order until the agent kills this process, or is gone."""
    # A service manager sends these to all that belong to the agent; the script has then to end before its input does.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    order = json.loads(sys.stdin.readline())
    lock = threading.Lock()

    def tell(*words: object) -> None:
        with lock, contextlib.suppress(BrokenPipeError):  # the agent is gone
            os.write(1, json.dumps(words).encode() + b"\n")

    channels = {
        name: Channel(name, files, order["folder"], order["record_io"], tell)
        for name, files in order["channels"].items()
    }
    for channel in channels.values():
        threading.Thread(target=channel.feed, name=channel.name, daemon=True).start()
    for line in sys.stdin:
        name, path, facts = json.loads(line)
        channels[name].arrive(Arrival(name, path, tuple(facts)))
    outlast(list(channels.values()))
    os._exit(0)  # its threads wait for a script that is no more


if __name__ == "__main__":
    main()
