"""Child processes that never outlive this one, on a host with or without Linux namespaces."""

import functools
import json
import logging
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

LOG = logging.getLogger(__name__)
LAUNCHER = Path(__file__).parent / "launch"


@dataclass(frozen=True)
class Program:
    """What to run, and which of its files lie where. ``grafts`` maps a target to (source, read_only)."""

    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: str
    root: Path
    grafts: Mapping[str, tuple[Path, bool]] = field(default_factory=dict)
    keep: Sequence[Path] = ()


class Spawner:
    """One thread that starts every child. PDEATHSIG fires when the *thread* that forked ends, so that thread
    has to live as long as the process; a request thread of a server would take its children with it."""

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[
            tuple[Callable[[], subprocess.Popen[bytes]], Future[subprocess.Popen[bytes]]]
        ]
        self._work = queue.SimpleQueue()
        threading.Thread(target=self._loop, name="spawner", daemon=True).start()

    def _loop(self) -> None:
        while True:
            start, future = self._work.get()
            try:
                future.set_result(start())
            except Exception as error:
                future.set_exception(error)

    def start(self, start: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
        future: Future[subprocess.Popen[bytes]] = Future()
        self._work.put((start, future))
        return future.result()


@functools.cache
def spawner() -> Spawner:
    return Spawner()


def launch(program: Program, stdout: int | IO[bytes], isolate: bool | None = None) -> subprocess.Popen[bytes]:
    """Start the program in a session of its own; its stderr goes where its stdout goes."""
    isolate = namespaces_work() if isolate is None else isolate
    program.root.mkdir(parents=True, exist_ok=True)
    spec = {
        "parent": os.getpid(),
        "argv": list(program.argv),
        "cwd": program.cwd,
        "isolate": isolate,
        "root": str(program.root),
        "grafts": {k: [str(path), "ro" if ro else "rw"] for k, (path, ro) in program.grafts.items()},
        "keep": [str(path) for path in program.keep],
    }
    command = [base_interpreter(), "-I", "-S", str(LAUNCHER), json.dumps(spec)]

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            env=dict(program.env),
            start_new_session=True,
        )

    return spawner().start(start)


def base_interpreter() -> str:
    """The interpreter behind our virtual environment: it sees the standard library and nothing of ours."""
    return str(getattr(sys, "_base_executable", None) or sys.executable)


@functools.cache
def namespaces_work() -> bool:
    """True where the launcher can isolate; otherwise says once in the log what is lost."""
    with tempfile.TemporaryDirectory(prefix="probe-") as folder:
        base = Path(folder)
        (base / "task").mkdir()
        probe = Program(
            ["/bin/sh", "-c", "test -d /var/task"],
            {},
            "/",
            base / "root",
            {"/var/task": (base / "task", True)},
        )
        process = launch(probe, subprocess.PIPE, isolate=True)
        output, _ = process.communicate(timeout=20)
    if process.returncode != 0:
        LOG.warning(
            "this host forbids mount and process namespaces (%s): functions find their layers through "
            "PYTHONPATH and LD_LIBRARY_PATH instead of /opt, and training jobs their files through SM_* "
            "instead of /opt/ml",
            output.decode(errors="replace").strip(),
        )
    return process.returncode == 0


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL the whole session of a launched program; in a namespace the kernel then ends all of it."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def children_of(pid: int) -> list[int]:
    """Direct children, read from /proc; empty when the process is gone."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it ended while we were looking
            continue
        if int(fields[1]) == pid:
            found.append(int(entry.name))
    return found
