"""The Lambda Runtime API (2018-06-01) for one execution environment, on a loopback port of its own.

Source: AWS Lambda developer guide, "Using the Lambda runtime API for custom runtimes".
"""

import queue
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MAX_RESPONSE_BYTES = 6 * 1024 * 1024 + 100
POLL_SECONDS = 1.0


@dataclass
class Invocation:
    """One event on its way through an environment. ``deadline`` is in seconds since the epoch."""

    request_id: str
    payload: bytes
    function_arn: str
    deadline: float
    trace_id: str | None = None
    client_context: str | None = None
    done: threading.Event = field(default_factory=threading.Event)
    body: bytes = b"null"
    is_error: bool = False
    is_too_large: bool = False

    def finish(self, body: bytes, is_error: bool) -> None:
        if not self.done.is_set():
            self.body, self.is_error = body, is_error
            self.done.set()

    def headers(self) -> Iterable[tuple[str, str]]:
        yield "Lambda-Runtime-Aws-Request-Id", self.request_id
        yield "Lambda-Runtime-Deadline-Ms", str(int(self.deadline * 1000))
        yield "Lambda-Runtime-Invoked-Function-Arn", self.function_arn
        if self.trace_id:
            yield "Lambda-Runtime-Trace-Id", self.trace_id
        if self.client_context:
            yield "Lambda-Runtime-Client-Context", self.client_context


class RuntimeApi:
    """Serves the runtime of one process. ``ready`` is set by its first request for an invocation."""

    def __init__(self) -> None:
        self.waiting: queue.Queue[Invocation] = queue.Queue()
        self.current: Invocation | None = None
        self.init_error: bytes | None = None
        self.ready = threading.Event()
        self.closed = False
        self._server = _Server(("127.0.0.1", 0), _handler_for(self))
        threading.Thread(
            target=self._server.serve_forever, args=(0.2,), name="runtime-api", daemon=True
        ).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    def send(self, invocation: Invocation) -> None:
        self.current = invocation
        self.waiting.put(invocation)

    def next(self) -> Invocation | None:
        """Block until there is work; None once closed."""
        self.ready.set()
        while not self.closed:
            try:
                return self.waiting.get(timeout=POLL_SECONDS)
            except queue.Empty:
                continue
        return None

    def finish(self, request_id: str, body: bytes, is_error: bool) -> int:
        """Take an answer; the HTTP status to reply with."""
        invocation = self.current
        if invocation is None or invocation.request_id != request_id:
            return 400
        if not is_error and len(body) > MAX_RESPONSE_BYTES:
            invocation.is_too_large = True
            invocation.finish(too_large(), is_error=True)
            return 413
        invocation.finish(body, is_error)
        return 202

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._server.shutdown()
            self._server.server_close()


def too_large() -> bytes:
    text = "Response payload size exceeded maximum allowed payload size (6291556 bytes)."
    return f'{{"errorType":"Function.ResponseSizeTooLarge","errorMessage":"{text}"}}'.encode()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The runtime went away in the middle of a request: its process's end is reported elsewhere."""


def _handler_for(api: RuntimeApi) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        # Buffered writes and no Nagle delay: otherwise each call waits 40 ms twice for acknowledgements.
        protocol_version = "HTTP/1.1"
        wbufsize = -1
        disable_nagle_algorithm = True

        def log_message(self, format: str, *args: Any) -> None:
            """Requests of the runtime are not worth a log line."""

        def reply(self, status: int, body: bytes, headers: Iterable[tuple[str, str]] = ()) -> None:
            self.send_response(status)
            for name, value in (
                *headers,
                ("Content-Type", "application/json"),
                ("Content-Length", str(len(body))),
            ):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
            self.wfile.flush()

        def do_GET(self) -> None:
            invocation = api.next()
            if invocation is None:
                self.close_connection = True
                return
            self.reply(200, invocation.payload, invocation.headers())

        def do_POST(self) -> None:
            body = self.read_body()
            owner, action = self.path.rstrip("/").split("/")[-2:]
            status = 202
            if owner == "init":
                api.init_error = body
            else:
                status = api.finish(owner, body, action == "error")
            self.reply(status, b'{"status":"OK"}')

        def read_body(self) -> bytes:
            if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = bytearray()
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return bytes(body)

    return Handler


def remaining(deadline: float) -> float:
    """Seconds until the deadline, never negative."""
    return max(0.0, deadline - time.time())
