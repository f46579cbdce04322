"""The demo, killed with everything that it started, starts again and ends well; nobody cleans up between."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from demo.stamp import ROOT
from demo.system import wait_until

pytestmark = pytest.mark.e2e

FOLDER = ROOT / ".isthmus/killed"
SAID = FOLDER.with_suffix(".log")
LIMIT_SECONDS = 900


def start() -> subprocess.Popen[bytes]:
    """Start the demo as ``make demo`` does, in a folder of its own and a session of its own."""
    SAID.parent.mkdir(parents=True, exist_ok=True)
    with SAID.open("wb") as said:
        command = [sys.executable, "-m", "demo", "--folder", str(FOLDER)]
        return subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=said, start_new_session=True)


def kill_at(moment: Callable[[], bool], what: str) -> None:
    """Start the demo, and SIGKILL it and all its processes when the moment has come."""
    demo = start()

    def alive() -> None:
        assert demo.poll() is None, SAID.read_text()

    try:
        wait_until(moment, what, LIMIT_SECONDS, alive)
    finally:
        killed = kill_all(demo.pid)
        demo.wait()
    assert killed > 2, "the demo, a supervisor and its engine at the least"
    # Of its own accord nothing of it goes on, or comes back.
    wait_until(lambda: not mentioning(FOLDER), "everything to be gone", 10)


def kill_all(root: int) -> int:
    """SIGKILL a process and the local cloud's supervisor with all their descendants; return how many."""
    parents = parents_of_all()
    doomed = {process for process in (root, supervisor()) if process in parents}
    while more := {child for child, parent in parents.items() if parent in doomed} - doomed:
        doomed |= more
    for process in doomed:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    return len(doomed)


def supervisor() -> int:
    """Return the process id of the local cloud's supervisor, 0 when none runs.

    It is recorded with its start time: the id alone may be another process's by now.
    """
    with contextlib.suppress(OSError, ValueError):
        recorded = json.loads((FOLDER / "cloud/supervisor.json").read_text())
        if int(status_of(recorded["pid"])[19]) == recorded["start_time"]:
            return int(recorded["pid"])
    return 0


def status_of(process: int) -> list[str]:
    """Return the fields of ``/proc/<id>/stat`` after the name: state, parent, …; the start time is [19]."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()


def process_ids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def parents_of_all() -> dict[int, int]:
    """Return each process's parent."""
    found = {}
    for process in process_ids():
        with contextlib.suppress(OSError):
            found[process] = int(status_of(process)[1])
    return found


def mentioning(folder: Path) -> list[str]:
    """Return the command lines of processes that were started in or for a folder."""
    found, mark = [], str(folder).encode()
    for process in process_ids():
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{process}/cmdline").read_bytes()
            if mark in words + b"\0" + Path(f"/proc/{process}/environ").read_bytes():
                found.append(words.replace(b"\0", b" ").decode(errors="replace"))
    return found


def log(name: str) -> str:
    """Return a log of the run at hand, as far as it is written."""
    path = FOLDER / "logs" / name
    return path.read_text() if path.exists() else ""


def deploying() -> bool:
    """Whether CloudFormation is at work."""
    asked = FOLDER / "cloud/logs/localcloud.log"
    return asked.exists() and "cloudformation.ExecuteChangeSet" in asked.read_text()


def test_a_killed_demo_starts_again_and_ends_well() -> None:
    (FOLDER / "cloud/logs/localcloud.log").unlink(missing_ok=True)
    kill_at(deploying, "the deployment to be under way")
    kill_at(lambda: "training started" in log("rig.log"), "the training to be under way")
    demo = start()
    try:
        status = demo.wait(LIMIT_SECONDS)
    finally:
        kill_all(demo.pid)
    said = SAID.read_text()
    assert status == 0, said[-3000:]
    assert "agree with onnxruntime on every sample" in said
    assert mentioning(FOLDER) == []
