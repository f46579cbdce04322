"""One Lambda execution environment: a process, its Runtime API and its log."""

import dataclasses
import json
import os
import select
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from ..processes import Program, kill_group, launch
from .runtime_api import Invocation, RuntimeApi, remaining

INIT_SECONDS = 10.0
MAX_KEPT_LOG_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Outcome:
    """What one invocation gave. ``duration_ms`` excludes a cold start, ``init_ms`` is its length."""

    body: bytes
    is_error: bool
    logs: str
    duration_ms: float
    init_ms: float | None


class Output:
    """The merged stdout and stderr of a process, readable to the last byte written so far."""

    def __init__(self, listener: Callable[[bytes], None] | None) -> None:
        self._listener, self._lock, self._kept = listener, threading.Lock(), bytearray()
        self._read_fd, self.write_fd = os.pipe()
        self._open = True
        os.set_blocking(self._read_fd, False)

    def follow(self) -> None:
        """Read until the last writer is gone."""
        poll = select.poll()
        poll.register(self._read_fd, select.POLLIN)
        while self._open:
            poll.poll()
            self.read()

    def read(self) -> None:
        """Take what is there now. A lock, because an invocation reads too, to have its own last lines."""
        with self._lock:
            while self._open:
                try:
                    data = os.read(self._read_fd, 65536)
                except BlockingIOError:
                    return
                if not data:
                    os.close(self._read_fd)
                    self._open = False
                    return
                self._kept += data
                del self._kept[:-MAX_KEPT_LOG_BYTES]
                if self._listener:
                    self._listener(data)

    def take(self) -> str:
        """Everything since the last call."""
        self.read()
        with self._lock:
            text = self._kept.decode(errors="replace")
            self._kept.clear()
        return text


class Environment:
    """Runs a program that speaks the Runtime API. Invocations come one at a time, as AWS guarantees."""

    def __init__(
        self,
        program: Program,
        on_output: Callable[[bytes], None] | None = None,
        init_seconds: float = INIT_SECONDS,
    ) -> None:
        self._program, self._on_output, self._init_seconds = program, on_output, init_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._api: RuntimeApi | None = None
        self._output = Output(None)
        self.init_ms: float | None = None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the process and wait for its initialisation, at most as long as AWS allows. A failed one is
        not raised: the next invocation repeats it and reports what it says, as AWS does."""
        began = time.monotonic()
        self._begin()
        in_time = self._api is not None and self._api.ready.wait(self._init_seconds)
        self.init_ms = (time.monotonic() - began) * 1000
        if not in_time:
            self.kill()

    def _begin(self) -> None:
        api, output = RuntimeApi(), Output(self._on_output)
        env = {**self._program.env, "AWS_LAMBDA_RUNTIME_API": api.address}
        process = launch(dataclasses.replace(self._program, env=env), output.write_fd)
        os.close(output.write_fd)
        self._api, self._output, self._process = api, output, process
        threading.Thread(
            target=self._watch, args=(process, api, output), name="lambda-watch", daemon=True
        ).start()

    def _watch(self, process: subprocess.Popen[bytes], api: RuntimeApi, output: Output) -> None:
        output.follow()
        code = process.wait()
        if api.current is not None:
            api.current.finish(api.init_error or exit_error(api.current.request_id, code), is_error=True)
        api.ready.set()
        api.close()

    def invoke(self, invocation: Invocation, timeout_seconds: float) -> Outcome:
        """Run one invocation; the deadline counts from here, and a repeated initialisation counts against
        it."""
        began = time.monotonic()
        if not self.alive:
            self._begin()
        api = self._api
        if api is None:
            raise RuntimeError("the environment has no process")
        invocation.deadline = time.time() + timeout_seconds
        api.send(invocation)
        logs = ""
        if not invocation.done.wait(remaining(invocation.deadline)):
            invocation.finish(timeout_error(invocation.request_id, timeout_seconds), is_error=True)
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + ".000Z"
            logs = f"{stamp} {invocation.request_id} Task timed out after {timeout_seconds:.2f} seconds\n\n"
            self.kill()
        duration_ms = (time.monotonic() - began) * 1000
        if invocation.is_too_large:
            # The runtime ends itself over the refused answer: the next invocation shall not meet that.
            self.kill()
        init_ms, self.init_ms = self.init_ms, None
        return Outcome(invocation.body, invocation.is_error, self._output.take() + logs, duration_ms, init_ms)

    def init_failure(self) -> str:
        """What the last initialisation reported, for people."""
        error = self._api.init_error if self._api else None
        return error.decode(errors="replace") if error else f"not ready within {self._init_seconds:.0f} s"

    def kill(self) -> None:
        if self._process is not None and self.alive:
            kill_group(self._process)
            self._process.wait()


def exit_error(request_id: str, code: int) -> bytes:
    """What Lambda answers when the runtime process ends during an invocation."""
    how = f"signal: {signal_name(-code)}" if code < 0 else f"exit status {code}"
    message = f"RequestId: {request_id} Error: Runtime exited with error: {how}"
    if code == 0:
        message = f"RequestId: {request_id} Error: Runtime exited without providing a reason"
    return json.dumps({"errorType": "Runtime.ExitError", "errorMessage": message}).encode()


def signal_name(number: int) -> str:
    """As Go prints it, which is what Lambda's own init is written in."""
    names = {6: "aborted", 9: "killed", 11: "segmentation fault", 15: "terminated"}
    return names.get(number, f"signal {number}")


def timeout_error(request_id: str, seconds: float) -> bytes:
    message = f"RequestId: {request_id} Error: Task timed out after {seconds:.2f} seconds"
    return json.dumps({"errorType": "Sandbox.Timedout", "errorMessage": message}).encode()
