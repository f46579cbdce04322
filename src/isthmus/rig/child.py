"""A training's process as the runner follows it: lines, metrics, deadline, end."""

from __future__ import annotations

import math
import os
import selectors
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from isthmus.errors import AttemptLost
from isthmus.frameworks.printed import keep_metrics
from isthmus.model.units import format_seconds
from isthmus.ports import Flag
from isthmus.rig import warden
from isthmus.rig.joblog import JobLog
from isthmus.rig.standby import Standby

TAIL_LINES = 40
MAX_LINE_BYTES = 16_384
ROOM_FOR_A_MARK = 60
POLL_SECONDS = 0.2
STEP_GRACE_SECONDS = 5.0
"""What a build or a pull gets between SIGTERM and SIGKILL: whatever it leaves is made anew."""

OnLine = Callable[[str], None]


@dataclass
class Record:
    """What is kept of a run's output: the log file, the last lines, the last value of each metric."""

    log: JobLog
    on_line: tuple[OnLine, ...] = ()
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL_LINES))
    metrics: dict[str, float] = field(default_factory=dict)

    def take(self, raw: bytes) -> None:
        self.log.write(raw + b"\n")
        line = raw.decode("utf-8", "replace").rstrip("\r")
        self.tail.append(line)
        keep_metrics(line, self.metrics)
        for hear in self.on_line:
            hear(line)


class Child:
    """One command under a warden: its output, its deadline, its end.

    ``standby`` starts it, by default a fresh one.
    ``end`` kills everything that is left of the run; without it, the processes that carry its id.
    """

    def __init__(
        self,
        run_id: str,
        folder: Path,
        variables: Mapping[str, str],
        record: Record,
        stop: Flag,
        grace_seconds: float,
        *,
        standby: Standby | None = None,
        end: Callable[[], object] | None = None,
    ) -> None:
        self._run_id = run_id
        self._folder = folder
        self._variables = variables
        self._record = record
        self._stop = stop
        self._grace_seconds = grace_seconds
        self._standby = standby or Standby()
        self._end = end or (lambda: warden.kill_run(run_id))

    def run(self, command: Iterable[str], limit_seconds: float) -> int:
        """Return the exit code: the command's own, or 128 + n when signal n ended it."""
        process = self._standby.start(self._run_id, list(command), self._folder, self._variables)
        try:
            self._follow(process, limit_seconds)
            code = process.wait()
            return code if code >= 0 else 128 - code
        finally:
            # Closes the lifeline. The warden has ended unless we are leaving by an exception.
            if process.stdin:
                process.stdin.close()
            self._end()
            process.wait()

    def _follow(self, process: subprocess.Popen[bytes], limit_seconds: float) -> None:
        """Read lines until the output ends; enforce the limit, a stop, and the grace after either."""
        ends_at, killed_at = time.monotonic() + limit_seconds, math.inf
        lines = _Lines(process)
        while lines.open:
            for line in lines.read(POLL_SECONDS):
                self._record.take(line)
            now = time.monotonic()
            if killed_at == math.inf and (reason := self._reason(now, ends_at, limit_seconds)):
                self._record.take(reason.encode())
                process.terminate()
                killed_at = now + self._grace_seconds
            if now >= killed_at or process.poll() is not None:
                # The warden is gone (killed by hand, say) or the grace is over.
                self._end()
        lines.close()

    def _reason(self, now: float, ends_at: float, limit_seconds: float) -> str:
        if self._stop.is_set():
            return "isthmus: stopped on request"
        return (
            f"isthmus: stopped at its deadline of {format_seconds(limit_seconds)}" if now >= ends_at else ""
        )


def run_step(
    command: Sequence[str],
    variables: Mapping[str, str],
    hear: OnLine,
    *,
    stop: Flag | None = None,
    limit_seconds: float = math.inf,
) -> int:
    """Run a step of what comes before a training (a build, a pull), passing its lines on; return its exit code.

    Raises:
        AttemptLost: ``stop`` was set meanwhile. The step is ended.
        OSError: there is no such program; as TimeoutError: it took longer than ``limit_seconds``, and is ended.
    """
    with subprocess.Popen(
        command,
        env=dict(variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        lines, ends_at = _Lines(process), time.monotonic() + limit_seconds
        try:
            while lines.open:
                for line in lines.read(POLL_SECONDS):
                    hear(line.decode("utf-8", "replace").rstrip("\r"))
                if stop is not None and stop.is_set():
                    raise AttemptLost(f"stopped while {Path(command[0]).name} {command[1]} ran")
                if time.monotonic() >= ends_at:
                    raise TimeoutError(f"it took longer than {format_seconds(limit_seconds)}")
        except BaseException:
            _end_step(process)
            raise
        finally:
            lines.close()
    return process.returncode


def _end_step(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STEP_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()


def _shortened(line: bytes) -> bytes:
    """At most ``MAX_LINE_BYTES``, of which the last say how much of the line is left out."""
    if len(line) <= MAX_LINE_BYTES:
        return line
    kept = MAX_LINE_BYTES - ROOM_FOR_A_MARK
    return line[:kept] + b" [isthmus: %d bytes are left out here]" % (len(line) - kept)


class _Lines:
    """Lines of a process's output as they come, without waiting for more than asked."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        if process.stdout is None:
            raise ValueError("the process has no pipe for its output")
        self._pipe = process.stdout
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._pipe, selectors.EVENT_READ)
        self._rest = b""
        self.open = True

    def read(self, wait_seconds: float) -> list[bytes]:
        """Return the complete lines that came within ``wait_seconds``; at the end, the rest."""
        if not self._selector.select(wait_seconds):
            return []
        chunk = os.read(self._pipe.fileno(), 65_536)
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if not chunk or len(self._rest) > MAX_LINE_BYTES:
            lines, self._rest = [*lines, self._rest], b""
        self.open = bool(chunk)
        return [_shortened(line) for line in lines if line or chunk]

    def close(self) -> None:
        self._selector.close()
        self._pipe.close()
