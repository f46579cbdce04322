"""A server on loopback that follows a script: what a real one does only when something is wrong."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass(frozen=True)
class Reply:
    """``body``: bytes, or a value for JSON, or a function of the request's JSON. ``hangs``: until the end;
    ``drips``: one byte again and again; ``short``: the connection ends within the body."""

    status: int = 200
    body: Any = b""
    headers: dict[str, str] = field(default_factory=dict)
    hangs: bool = False
    drips: bool = False
    short: bool = False


class ScriptedServer(ThreadingHTTPServer):
    """``script`` is used up, one reply a request; the last one stays. ``seen``: (method, path, headers, body)."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script: list[Reply] = []
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []
        self.connections: set[Any] = set()
        self.ended = threading.Event()
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that gave up is what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    server: ScriptedServer

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        with self.server.lock:
            self.server.seen.append((self.command, self.path, headers, body))
            self.server.connections.add(self.client_address)
            script = self.server.script
            reply = script.pop(0) if len(script) > 1 else script[0]
        if reply.hangs:
            self.server.ended.wait()
            self.close_connection = True
            return
        self._send(reply, body)

    do_POST = do_PUT = do_GET  # noqa: N815

    def _send(self, reply: Reply, asked: bytes) -> None:
        value = reply.body(json.loads(asked or b"{}")) if callable(reply.body) else reply.body
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(reply.status)
        for name, text in reply.headers.items():
            self.send_header(name, text)
        self.send_header("content-length", str(len(body) + (1 << 30) * reply.drips + reply.short))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()
        while reply.drips and not self.server.ended.wait(0.01):
            self.wfile.write(b" ")
            self.wfile.flush()
        self.close_connection = reply.short

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def answer(value: float) -> Reply:
    """Return the reply of a model whose output ``y`` is that value, with the id that was asked."""

    def body(asked: dict[str, Any]) -> dict[str, Any]:
        output = {"name": "y", "datatype": "FP32", "shape": [1], "data": [value]}
        return {"model_name": "m", "model_version": "1", "id": asked.get("id"), "outputs": [output]}

    return Reply(body=body)
