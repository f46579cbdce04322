"""Start, find, describe and end a local cloud."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import control
from .errors import LocalcloudError, NotRunningError
from .lambdas.interpreters import check_interpreter
from .preflight import check_disk, choose_port
from .state import STATE_VARIABLE, StateFolder, read_json, write_json
from .supervisor import Supervisor, start_time

UP_SECONDS = 140.0
DOWN_SECONDS = 30.0
POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Wish:
    """What ``up`` was asked for."""

    port: int
    region: str
    images: dict[str, str]
    runtimes: dict[str, str]
    foreground: bool


def running_pid(state: StateFolder) -> int | None:
    """The supervisor's pid; None when it is gone, also when a stale file names a pid that was used again."""
    found = read_json(state.supervisor_file)
    if not found or start_time(found["pid"]) is None:
        return None
    return int(found["pid"]) if start_time(found["pid"]) == found.get("start_time") else None


def up(state: StateFolder, wish: Wish, quiet: bool) -> dict[str, Any]:
    """Returns what endpoint.json says. Raises PreflightError before anything is started."""
    if running_pid(state) is not None:
        return {**await_ready(state, None, quiet), "already_up": True}
    for name, path in wish.runtimes.items():
        check_interpreter(name, path)
    state.forget_earlier_cloud()
    state.make()
    check_disk(state.path)
    port = choose_port(wish.port)
    clear_stale(state)
    merge_settings(state, wish)
    if wish.foreground:
        return run_attached(state, port, wish.region)
    command = [sys.executable, "-m", "isthmus_localcloud.supervisor", str(state.path), str(port), wish.region]
    with (state.logs_dir / "supervisor.log").open("ab") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=state.path
        )
    return await_ready(state, process, quiet)


def run_attached(state: StateFolder, port: int, region: str) -> dict[str, Any]:
    """In this very process, until Ctrl-C."""
    print(f"starting on port {port}; Ctrl-C ends it", file=sys.stderr)
    os.environ.update({STATE_VARIABLE: str(state.path), "TMPDIR": str(state.tmp_dir)})
    write_json(
        state.supervisor_file, {"pid": os.getpid(), "start_time": start_time(os.getpid()), "port": port}
    )
    code = Supervisor(state, port, region).run()
    if code:
        raise LocalcloudError(state.failure_file.read_text().strip())
    return {"stopped": True}


def clear_stale(state: StateFolder) -> None:
    """What a killed predecessor left."""
    for file in (state.endpoint_file, state.supervisor_file, state.control_socket, state.failure_file):
        file.unlink(missing_ok=True)


def merge_settings(state: StateFolder, wish: Wish) -> None:
    """Options add to what the files in the state folder already say."""
    for file, new in ((state.images_file, wish.images), (state.runtimes_file, wish.runtimes)):
        if new:
            write_json(file, {**(read_json(file) or {}), **new})


def await_ready(state: StateFolder, process: subprocess.Popen[bytes] | None, quiet: bool) -> dict[str, Any]:
    """Poll for endpoint.json, which is written last."""
    began = time.monotonic()
    if not quiet and process is not None:
        print("starting the local cloud ...", file=sys.stderr, flush=True)
    while time.monotonic() - began < UP_SECONDS:
        if found := read_json(state.endpoint_file):
            return found
        if process is not None and process.poll() is not None:
            reason = state.failure_file.read_text().strip() if state.failure_file.exists() else ""
            raise LocalcloudError(
                reason or f"the supervisor ended with status {process.returncode}: see {state.logs_dir}"
            )
        time.sleep(POLL_SECONDS)
    raise LocalcloudError(f"the local cloud was not ready within {UP_SECONDS:.0f} s: see {state.engine_log}")


def down(state: StateFolder) -> dict[str, Any]:
    """Idempotent. Returns when no process of it is left."""
    pid = running_pid(state)
    if pid is None:
        clear_stale(state)
        return {"stopped": False, "message": f"no local cloud was running on {state.path}"}
    began = start_time(pid)
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + DOWN_SECONDS
    while start_time(pid) == began:
        if time.monotonic() > deadline:
            raise LocalcloudError(
                f"the supervisor {pid} did not end within {DOWN_SECONDS:.0f} s: see {state.logs_dir}"
            )
        time.sleep(POLL_SECONDS)
    return {"stopped": True}


def status(state: StateFolder) -> dict[str, Any]:
    """Raises NotRunningError when nothing runs on the folder."""
    found = read_json(state.endpoint_file)
    if running_pid(state) is None or found is None:
        raise NotRunningError(f"no local cloud runs on {state.path}: start one with 'up'")
    own = control.ask(state.control_socket, {"op": "status"})
    with urllib.request.urlopen(f"{found['endpoint_url']}/_isthmus/status", timeout=10) as answer:
        inside: dict[str, Any] = json.loads(answer.read())
    uptime = round(time.time() - found["started_at"], 1)
    return {**found, "health": "ok", "uptime_seconds": uptime, **inside, "core_devices": own["devices"]}


def log_file(state: StateFolder, name: str | None) -> Path:
    """Raises LocalcloudError for a name without a log."""
    choices = [state.function_log(name), state.job_log(name)] if name else [state.engine_log]
    for file in choices:
        if file.exists():
            return file
    known = sorted(file.stem.partition("-")[2] for file in state.logs_dir.glob("*-*.log"))
    raise LocalcloudError(
        f"there is no log of {name or 'the local cloud'}; there are logs of: {', '.join(known) or 'none'}"
    )


def follow_log(file: Path, follow: bool) -> Iterator[str]:
    """The text so far, then what is added, until interrupted."""
    with file.open(errors="replace") as stream:
        while True:
            if text := stream.read():
                yield text
            elif not follow:
                return
            else:
                time.sleep(POLL_SECONDS)
