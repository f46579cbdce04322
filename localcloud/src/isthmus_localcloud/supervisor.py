"""The process that owns a running local cloud: LocalEmu and the core devices are its children.

It is the subreaper of all of them, so whatever they leave behind becomes its child and ends with it.
Should it be killed itself, every child dies by PDEATHSIG (see ``processes``).
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

from .control import ControlServer
from .engine import engine_command, engine_environment
from .errors import LocalcloudError
from .lambdas.runtime_files import EDGE_DISTRIBUTIONS, prepare_runtime
from .preflight import HOST
from .processes import Program, children_of, kill_group, launch
from .state import STATE_VARIABLE, StateFolder, write_json

PR_SET_CHILD_SUBREAPER = 36
START_SECONDS = (60.0, 50.0)
"""What LocalEmu gets to answer, at a first and at a second start: it was seen that its web server never
answered while the process said that it was ready."""
STOP_SECONDS = 6.0
POLL_SECONDS = 0.1
ACCOUNT_ID = "000000000000"


class Supervisor:
    """Runs until told to stop or until LocalEmu ends."""

    def __init__(
        self, state: StateFolder, port: int, region: str, start_seconds: tuple[float, ...] = START_SECONDS
    ) -> None:
        self.state, self.port, self.region = state, port, region
        self.start_seconds = start_seconds
        self.stopping = threading.Event()
        self.engine: subprocess.Popen[bytes] | None = None
        self.started_at = time.time()

    @property
    def endpoint_url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def run(self) -> int:
        """The exit code: 0 after an orderly stop, 1 when LocalEmu would not start or ended by itself."""
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(signum, lambda *_: self.stopping.set())
        control = ControlServer(self)
        try:
            self._start_engine()
            prepare_runtime(self.state.runtime_dir)
            prepare_runtime(self.state.edge_runtime_dir, EDGE_DISTRIBUTIONS)
            self._await_ready()
            control.start()
            self._publish()
            self._watch()
            return 0
        except LocalcloudError as error:
            self.state.failure_file.write_text(f"{error}\n")
            return 1
        finally:
            self.state.endpoint_file.unlink(missing_ok=True)
            control.stop()
            self._end_all()
            self.state.supervisor_file.unlink(missing_ok=True)

    def _start_engine(self) -> None:
        environment = engine_environment(self.state, self.port, self.region, os.environ)
        program = Program(engine_command(), environment, str(self.state.path), self.state.path / "root")
        with self.state.engine_log.open("ab") as log:
            self.engine = launch(program, log, isolate=False)

    def _await_ready(self) -> None:
        for number, seconds in enumerate(self.start_seconds):
            if number and self.engine is not None:
                kill_group(self.engine)
                self.engine.wait()
                self._start_engine()
            if self._answers_within(seconds):
                return
        waited = " and again ".join(f"{seconds:.0f} s" for seconds in self.start_seconds)
        raise LocalcloudError(f"LocalEmu was not ready within {waited}: see {self.state.engine_log}")

    def _answers_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not self.stopping.wait(POLL_SECONDS):
            self._check_engine()
            if self._healthy():
                return True
            if time.monotonic() > deadline:
                return False
        raise LocalcloudError("stopped before it was ready")

    def _check_engine(self) -> None:
        if self.engine is not None and (code := self.engine.poll()) is not None:
            raise LocalcloudError(f"LocalEmu ended by itself with status {code}: see {self.state.engine_log}")

    def _healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.endpoint_url}/_localemu/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def _publish(self) -> None:
        found = {"endpoint_url": self.endpoint_url, "region": self.region, "account_id": ACCOUNT_ID}
        found["ca_bundle"] = str(self.state.ca_bundle)
        write_json(self.state.endpoint_file, {**found, "pid": os.getpid(), "started_at": self.started_at})

    def _watch(self) -> None:
        while not self.stopping.wait(POLL_SECONDS):
            self._check_engine()

    def _end_all(self) -> None:
        """An orderly end for LocalEmu, then SIGKILL for every descendant that is left."""
        if self.engine is not None and self.engine.poll() is None:
            self.engine.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.engine.wait(STOP_SECONDS)
            kill_group(self.engine)
        while left := children_of(os.getpid()):
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for pid in left:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, 0)


def start_time(pid: int) -> int | None:
    """When the process started, in clock ticks since boot: tells a process from a later one with its pid.
    None when it is gone, also while nobody has reaped it yet."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])


def main() -> int:
    """``python -m isthmus_localcloud.supervisor STATE PORT REGION``"""
    state, port, region = StateFolder(Path(sys.argv[1])), int(sys.argv[2]), sys.argv[3]
    os.environ[STATE_VARIABLE] = str(state.path)
    os.environ["TMPDIR"] = str(state.tmp_dir)
    write_json(
        state.supervisor_file, {"pid": os.getpid(), "start_time": start_time(os.getpid()), "port": port}
    )
    return Supervisor(state, port, region).run()


if __name__ == "__main__":
    sys.exit(main())
