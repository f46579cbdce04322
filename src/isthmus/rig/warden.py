"""Stands between the agent and a training, so that no process of the training outlives the agent.

The agent starts it with a pipe as standard input and never writes to that pipe. When the agent ends,
however it ends, the kernel closes the pipe, and the warden kills the training. ``SIGTERM`` is passed
on to the training's process group. A training's processes are known by the run id in their
environment: unlike a process id or group it cannot be recycled, and a daemon keeps it too.

Run by its path with ``python -I -S``: only the standard library, and started in milliseconds.
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

RUN_ID = "ISTHMUS_RUN_ID"
RUN_END = "ISTHMUS_RUN_END"
"""A command (JSON, a list of words) that ends what of a run is not among this machine's processes: a container."""
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


def _watch_lifeline(run_id: str, end: list[str]) -> None:
    """Wait for the end of standard input, which only the agent's end brings, and kill the run."""
    while os.read(0, 1024):
        continue
    if end:
        # Without the run's id: killing must not kill who kills.
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            subprocess.run(end, stdin=subprocess.DEVNULL, timeout=END_SECONDS, check=False)
    kill_run(run_id)


def _pass_on(process: subprocess.Popen[bytes]) -> None:
    def handler(number: int, frame: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)

    signal.signal(signal.SIGTERM, handler)


def watch(run_id: str, command: list[str]) -> int:
    """Run ``command`` in a process group of its own; return its exit code, 128 + n for signal n."""
    end = json.loads(os.environ.pop(RUN_END, "[]"))
    environment = {**os.environ, RUN_ID: run_id}
    process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, process_group=0)
    _pass_on(process)
    threading.Thread(target=_watch_lifeline, args=(run_id, end), daemon=True).start()
    code = process.wait()
    # What the script started and left behind must not hold the GPU, nor the log open.
    kill_run(run_id)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(watch(sys.argv[1], sys.argv[2:]))
