"""The Open Inference Protocol on this device's loopback interface, from the standard library."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Protocol

from isthmus.errors import IsthmusError, PayloadTooLarge
from isthmus.inference.http import HttpRequest, HttpResponse, error_response
from isthmus.inference.web_pages import refuse_web_page
from isthmus.model.units import format_bytes

LOOPBACK = "127.0.0.1"
IDLE_SECONDS = 60
"""How long a connection may be silent, within a request or between two."""
LINGER_SECONDS = 1.0

logger = logging.getLogger(__name__)


class Answers(Protocol):
    """What is behind the server: a ``ModelService``, or a proxy."""

    def handle(self, request: HttpRequest) -> HttpResponse:
        """Return the answer to any request."""


class EdgeServer(ThreadingHTTPServer):
    """Serves until ``close``; port 0 takes a free one."""

    # An idle kept-alive connection must not hold up the end; requests being answered are waited for.
    daemon_threads = True
    block_on_close = False
    # The library's 5 makes the sixth of many clients at once wait a second for its next try.
    request_queue_size = 128

    def __init__(self, service: Answers, port: int, *, max_request_bytes: int) -> None:
        self.service = service
        self.max_request_bytes = max_request_bytes
        self._busy = 0
        self._quiet = threading.Condition()
        super().__init__((LOOPBACK, port), _Handler)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.1,), name="oip", daemon=True)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self.server_address[1])

    def start(self) -> None:
        """Begin to serve in a thread of its own."""
        self._thread.start()

    def close(self, *, wait_seconds: float = 10.0) -> bool:
        """Accept no more, wait for the requests being answered, and close; return whether all ended."""
        self.shutdown()
        with self._quiet:
            ended = self._quiet.wait_for(lambda: self._busy == 0, wait_seconds)
        self.server_close()
        return ended

    def answer(self, request: HttpRequest) -> HttpResponse:
        """Answer one request, no web page's; what nobody foresaw is logged and becomes a 500 without details."""
        try:
            return refuse_web_page(request) or self.service.handle(request)
        except Exception:
            logger.exception("a request failed")
            return error_response(500, "the server failed; its log says why")

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Count a request until its answer was sent; ``close`` waits for it."""
        with self._quiet:
            self._busy += 1
        try:
            yield
        finally:
            with self._quiet:
                self._busy -= 1
                self._quiet.notify_all()

    def handle_error(self, request: object, client_address: object) -> None:
        """Log a connection that broke; the library would write to standard error."""
        logger.info("a connection broke", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS
    # Headers and body leave in one buffered write, at once: else delayed ACKs cost 40 ms a request.
    wbufsize = -1
    disable_nagle_algorithm = True
    server: EdgeServer

    def __getattr__(self, name: str) -> Callable[[], None]:
        """Every method is served: a wrong one gets the protocol's 405 with ``Allow``, not the library's page."""
        if name.startswith("do_"):
            return self._serve
        raise AttributeError(name)

    def _serve(self) -> None:
        # A request line without a version: its answer would have no status.
        if self.request_version == "HTTP/0.9":
            self.send_error(400, "the request line must end with HTTP/1.1")
            return
        try:
            body = self._read_body()
        except _BadTransfer as error:
            # What follows on this connection is the unread body: it cannot be used again.
            self.close_connection = True
            self._send(error_response(error.http_status, str(error)))
            self._linger()
            return
        headers = dict(self.headers.items())
        with self.server.busy():
            self._send(self.server.answer(HttpRequest(self.command, self.path, headers, body)))

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding"):
            raise _BadTransfer(HTTPStatus.LENGTH_REQUIRED, "send Content-Length, not Transfer-Encoding")
        length = self.headers.get("Content-Length")
        if length is None:
            if self.command in ("POST", "PUT", "PATCH"):
                raise _BadTransfer(HTTPStatus.LENGTH_REQUIRED, "Content-Length is needed")
            return b""
        # Python refuses to read a number of thousands of digits.
        if not (length.isascii() and length.isdecimal() and len(length) < 20):
            raise _BadTransfer(HTTPStatus.BAD_REQUEST, "Content-Length must be a number of at most 19 digits")
        if int(length) > self.server.max_request_bytes:
            raise _BadTransfer(
                HTTPStatus(PayloadTooLarge.status),
                f"the request is {format_bytes(int(length))}; "
                f"at most {format_bytes(self.server.max_request_bytes)} is taken",
            )
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            raise _BadTransfer(HTTPStatus.BAD_REQUEST, f"the body ended after {len(body)} of {length} bytes")
        return body

    def _send(self, response: HttpResponse) -> None:
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(response.body)))
        if self.close_connection:
            self.send_header("connection", "close")
        self.end_headers()
        # The answer to HEAD has the headers of one with a body, and none (RFC 9110, 9.3.2).
        if self.command != "HEAD":
            self.wfile.write(response.body)
        self.wfile.flush()

    def _linger(self) -> None:
        """Let the client read the refusal: closing while its body arrives would reset the connection."""
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(LINGER_SECONDS)
            left = 2 * self.server.max_request_bytes
            while left > 0 and (piece := self.connection.recv(65536)):
                left -= len(piece)

    def handle_expect_100(self) -> bool:
        """Tell a client that waits to go on: the line must not stay in the write buffer."""
        accepted = super().handle_expect_100()
        self.wfile.flush()
        return accepted

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what the library itself refuses (a malformed request line) in the protocol's form."""
        # An unheard-of version is the caller's fault, not this server's.
        code = 400 if code == 505 else code
        self.close_connection = True
        # A line that could not be read counts as HTTP/0.9, which gets no status and no headers.
        self.request_version = self.protocol_version
        self._send(HttpResponse(code, json.dumps({"error": message or HTTPStatus(code).phrase}).encode()))

    def log_message(self, format: str, *args: object) -> None:
        """Requests are not logged one by one: paths may name what a user asks about."""
        logger.debug(format, *args)

    def version_string(self) -> str:
        """Tell no versions."""
        return "isthmus"


class _BadTransfer(IsthmusError):
    """The body cannot be read; ``http_status`` is the answer."""

    def __init__(self, http_status: HTTPStatus, sentence: str) -> None:
        super().__init__(sentence)
        self.http_status = http_status
