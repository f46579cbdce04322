"""Stands between the agent and a training, so that no process of the training outlives the agent.

The agent starts it with a pipe as standard input and never writes to that pipe. When the agent ends,
however it ends, the kernel closes the pipe, and the warden kills the training. ``SIGTERM`` is passed
on to the training's process group. A training's processes are known by the run id in their
environment: unlike a process id or group it cannot be recycled, and a daemon keeps it too.

Run by its path with ``python -I -S``: only the standard library, and started in milliseconds. Without arguments it
(or with ``--wait``) it is started before there is a training, and reads its order from the pipe: one line of JSON
(``order``). An interpreter of the last training's environment may wait under it, to become the next.
Linux only (``/proc``, pidfd: Linux 5.3).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

Waiting = subprocess.Popen[bytes] | None

RUN_ID = "ISTHMUS_RUN_ID"
RUN_END = "ISTHMUS_RUN_END"
"""A command (JSON, a list of words) that ends what of a run is not among this machine's processes: a container."""
PREFIX_WORDS = 3
"""Of a training's command: interpreter, ``-P``, ``frameworks/launch.py``."""
ROOM = 160
"""Bytes for the run's id in the environment of an interpreter that waits, which it writes over."""
KILL_SECONDS = 10.0
END_SECONDS = 60


def _process_ids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


@contextlib.contextmanager
def _handle(process_id: int) -> Iterator[int]:
    """Open a handle: signals sent through it reach this process or none, whoever gets its id next."""
    handle = os.pidfd_open(process_id)
    try:
        yield handle
    finally:
        os.close(handle)


def _belongs(process_id: int, run_id: str) -> bool:
    with open(f"/proc/{process_id}/environ", "rb") as file:
        return f"{RUN_ID}={run_id}".encode() in file.read().split(b"\0")


def kill_run(run_id: str) -> int:
    """Kill every process of a run, until none is found; return how many were killed.

    A process that hangs in a driver cannot be killed; after ``KILL_SECONDS`` it is left alone.
    """
    killed: set[int] = set()
    ends_at = time.monotonic() + KILL_SECONDS
    while found := [process_id for process_id in _process_ids() if _kill(process_id, run_id)]:
        killed.update(found)
        if time.monotonic() >= ends_at:
            break
        time.sleep(0.01)
    return len(killed)


def _kill(process_id: int, run_id: str) -> bool:
    # Gone meanwhile, or another user's: not ours to kill. A zombie's environment reads as empty.
    with contextlib.suppress(OSError), _handle(process_id) as handle:
        if _belongs(process_id, run_id):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            return True
    return False


def _watch_lifeline(process_group: int, run_id: str, end: list[str]) -> None:
    """Wait for the end of standard input, which only the agent's end brings, and kill the run."""
    while os.read(0, 1024):
        continue
    if end:
        # Without the run's id: killing must not kill who kills.
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            subprocess.run(end, stdin=subprocess.DEVNULL, timeout=END_SECONDS, check=False)
    # By its group first: an interpreter that waited may not show the run's id yet.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process_group, signal.SIGKILL)
    kill_run(run_id)


def _pass_on(process: subprocess.Popen[bytes]) -> None:
    def handler(number: int, frame: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)

    signal.signal(signal.SIGTERM, handler)


def watch(run_id: str, command: list[str], variables: dict[str, str], warm: Waiting = None) -> int:
    """Run ``command`` in a process group of its own; return its exit code, 128 + n for signal n.

    ``warm``: an interpreter that waits to become it.
    """
    end = json.loads(variables.pop(RUN_END, "[]"))
    environment = {**variables, RUN_ID: run_id}
    process = warm if warm and _becomes(warm, command, environment) else None
    if process is None:
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, process_group=0)
    _pass_on(process)
    threading.Thread(target=_watch_lifeline, args=(process.pid, run_id, end), daemon=True).start()
    code = process.wait()
    # What the script started and left behind must not hold the GPU, nor the log open.
    kill_run(run_id)
    return code if code >= 0 else 128 - code


def _becomes(warm: subprocess.Popen[bytes], command: list[str], environment: dict[str, str]) -> bool:
    """Tell an interpreter that waits what it is; return whether it heard."""
    told = {"arguments": command[PREFIX_WORDS:], "folder": os.getcwd(), "variables": environment}
    try:
        with warm.stdin or open(os.devnull, "wb") as pipe:
            pipe.write(json.dumps(told).encode() + b"\n")
    except BrokenPipeError:
        warm.wait()
        return False
    return True


def order(run_id: str, command: list[str], folder: str, variables: dict[str, str], *, warm: bool) -> bytes:
    """Return what tells a warden without arguments to run ``command`` in ``folder``; ``warm``: by the interpreter that
    waits under it."""
    told = {"run_id": run_id, "command": command, "folder": folder, "variables": variables, "warm": warm}
    return json.dumps(told).encode() + b"\n"


def _await_order(prefix: list[str], startup: dict[str, str]) -> int:
    """Wait for an order and obey; without one, the pipe's end is that of the agent, and of who waits below."""
    waiting = None
    if prefix:
        environment = {**startup, RUN_ID: ROOM * "-", "HOME": "/nonexistent"}
        command = [*prefix, "--wait"]
        waiting = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, process_group=0)
    text = b""
    while not text.endswith(b"\n"):
        piece = os.read(0, 65_536)
        if not piece:
            return 0
        text += piece
    told = json.loads(text)
    os.chdir(told["folder"])
    if waiting and not told["warm"]:
        waiting.kill()
        waiting.wait()
        waiting = None
    return watch(told["run_id"], told["command"], told["variables"], waiting)


if __name__ == "__main__":
    if sys.argv[1:] and sys.argv[1] != "--wait":
        sys.exit(watch(sys.argv[1], sys.argv[2:], dict(os.environ)))
    sys.exit(_await_order(*json.loads(sys.argv[2] if sys.argv[2:] else "[[], {}]")))
