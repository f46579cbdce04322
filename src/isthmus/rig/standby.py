"""What waits for the next training: started while the agent idles, it costs the training's start nothing.

A warden waits; and under it, once there was a training, an interpreter of the same environment. It has run nothing
but ``frameworks/launch.py``, which waits to be told the script, its folder and its variables. What an interpreter reads
of its environment when it starts must be the same, or it is not used.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from isthmus.frameworks import launch
from isthmus.rig import warden

AT_START = frozenset({"PATH", "LANG", "LANGUAGE", "TZ"})
AT_START_PREFIXES = ("PYTHON", "LD_", "LC_", "MALLOC_", "GLIBC_")
"""What an interpreter, its C library and their loader read when they start; the rest is read when it is used."""

Kind = tuple[tuple[str, ...], tuple[tuple[str, str], ...]]
NOBODY: Kind = ((), ())


class Standby:
    """Starts commands under wardens; ``ready`` has one wait, and ``close`` ends it. Safe to share by threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: subprocess.Popen[bytes] | None = None
        self._waits_for = NOBODY
        self._usual = NOBODY

    def ready(self) -> None:
        """Have a warden wait, unless one does.

        Raises:
            OSError: no process can be started.
        """
        with self._lock:
            if self._waiting is None or self._waiting.poll() is not None:
                self._discard()
                self._waiting, self._waits_for = _spawn(self._usual), self._usual

    def start(
        self, run_id: str, command: Sequence[str], folder: Path, variables: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        """Run ``command`` in ``folder`` under a warden, whose process is returned: its standard input is the
        lifeline, its output the command's.

        Raises:
            OSError: no process can be started, or there is no such folder.
        """
        os.stat(folder)
        kind = _kind_of(command, variables)
        with self._lock:
            process, self._waiting = self._waiting, None
            warm = kind == self._waits_for != NOBODY
            self._usual = self._usual if kind == NOBODY else kind
        told = warden.order(run_id, list(command), str(folder), dict(variables), warm=warm)
        if process is None or not _tell(process, told):
            process = _spawn(NOBODY)
            if not _tell(process, told):
                raise OSError("the process that watches a training ended before it began")
        return process

    def waiting_process_id(self) -> int | None:
        """Return the process id of the warden that waits, if one does."""
        with self._lock:
            return self._waiting.pid if self._waiting else None

    def close(self) -> None:
        """End the warden that waits."""
        with self._lock:
            self._discard()

    def _discard(self) -> None:
        if self._waiting is not None:
            _end(self._waiting)
        self._waiting = None


def _kind_of(command: Sequence[str], variables: Mapping[str, str]) -> Kind:
    """Return what an interpreter must be started with to become this command; NOBODY: it is none of ours."""
    prefix = tuple(command[: warden.PREFIX_WORDS])
    if prefix[1:2] != ("-P",) or not prefix[-1].endswith(launch.PROGRAM):
        return NOBODY
    startup = {
        name: value
        for name, value in variables.items()
        if name in AT_START or name.startswith(AT_START_PREFIXES)
    }
    return prefix, tuple(sorted(startup.items()))


def _spawn(kind: Kind) -> subprocess.Popen[bytes]:
    prefix, startup = kind
    # Nothing of the agent's environment: a warden needs none, and the agent's may hold what is secret.
    return subprocess.Popen(
        [sys.executable, "-I", "-S", warden.__file__, "--wait", json.dumps([prefix, dict(startup)])],
        cwd="/",
        env={name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def _tell(process: subprocess.Popen[bytes], told: bytes) -> bool:
    """Give a warden its order; return whether it was there to take it. One that was not is done with."""
    if process.poll() is None and process.stdin is not None:
        try:
            process.stdin.write(told)
            process.stdin.flush()
        except BrokenPipeError:
            pass
        else:
            return True
    _end(process)
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):  # what it was told and never read
                pipe.close()
    process.wait()
