from __future__ import annotations

import os
import subprocess
import sys

from isthmus.rig import warden

WAITS = "import threading; print('ready', flush=True); threading.Event().wait()"


def start(run_id: str, *command: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", warden.__file__, run_id, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def test_the_exit_code_is_the_commands(tmp_path: object) -> None:
    with start(f"codes-{os.getpid()}", sys.executable, "-c", "raise SystemExit(7)") as process:
        assert process.wait(20) == 7


def test_the_end_of_the_lifeline_kills_the_command() -> None:
    with start(f"lifeline-{os.getpid()}", sys.executable, "-c", WAITS) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.stdin.close()
        assert process.wait(20) == 137


def test_sigterm_reaches_the_command() -> None:
    with start(f"term-{os.getpid()}", sys.executable, "-c", WAITS) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.terminate()
        assert process.wait(20) == 143


def test_a_run_is_killed_even_when_its_warden_is_gone() -> None:
    run_id = f"orphan-{os.getpid()}"
    with start(run_id, sys.executable, "-c", WAITS) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.kill()
        process.wait()
        assert warden.kill_run(run_id) >= 1
        assert process.stdout.read() == b""
