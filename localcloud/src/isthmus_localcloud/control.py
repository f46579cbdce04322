"""How commands reach a running local cloud: one JSON line each way over a socket in the state folder."""

import json
import os
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import LocalcloudError, NotRunningError

if TYPE_CHECKING:
    from .supervisor import Supervisor

MAX_LINE_BYTES = 8 * 1024 * 1024
ANSWER_SECONDS = 180.0


@contextmanager
def short_path(path: Path) -> Iterator[str]:
    """A name for the socket that fits into the 108 bytes of sockaddr_un, however deep the folder lies."""
    folder = os.open(path.parent, os.O_PATH)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def ask(path: Path, request: dict[str, Any]) -> dict[str, Any]:
    """Raises NotRunningError when nobody answers, LocalcloudError when the answer is a refusal."""
    with socket.socket(socket.AF_UNIX) as link, short_path(path) as name:
        link.settimeout(ANSWER_SECONDS)
        try:
            link.connect(name)
        except OSError as error:
            raise NotRunningError(f"no local cloud runs on {path.parent}: start one with 'up'") from error
        link.sendall(json.dumps(request).encode() + b"\n")
        with link.makefile("rb") as stream:
            answer: dict[str, Any] = json.loads(stream.readline(MAX_LINE_BYTES) or b"{}")
    if "error" in answer:
        raise LocalcloudError(answer["error"])
    return answer


class ControlServer:
    """Answers the commands of ``python -m isthmus_localcloud``."""

    def __init__(self, supervisor: "Supervisor") -> None:
        self._supervisor = supervisor
        self._server: socketserver.ThreadingUnixStreamServer | None = None

    def start(self) -> None:
        from .edge.fleet import Fleet

        path, supervisor = self._supervisor.state.control_socket, self._supervisor
        fleet = Fleet(supervisor.state, supervisor.endpoint_url, supervisor.region)
        path.unlink(missing_ok=True)

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                request = json.loads(self.rfile.readline(MAX_LINE_BYTES) or b"{}")
                try:
                    answer = respond(supervisor, fleet, request)
                except (LocalcloudError, OSError, KeyError, ValueError) as error:
                    answer = {"error": str(error)}
                self.wfile.write(json.dumps(answer).encode() + b"\n")

        with short_path(path) as name:
            self._server = socketserver.ThreadingUnixStreamServer(name, Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.2,), name="control", daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
        self._supervisor.state.control_socket.unlink(missing_ok=True)


def respond(supervisor: "Supervisor", fleet: Any, request: dict[str, Any]) -> dict[str, Any]:
    match request.get("op"):
        case "stop":
            supervisor.stopping.set()
            return {"stopping": True}
        case "status":
            return {"devices": fleet.names(), "started_at": supervisor.started_at, "pid": os.getpid()}
        case "edge":
            result: dict[str, Any] = fleet.command(request)
            return result
    raise LocalcloudError(f"unknown command {request.get('op')!r}")
