"""The device's own socket, by which ``edge invoke``, ``publish`` and ``status`` reach it, cloud or no
cloud."""

import json
import socketserver
import threading
from typing import TYPE_CHECKING

from ..control import MAX_LINE_BYTES, short_path
from .generic import ScriptFailed

if TYPE_CHECKING:
    from .device import CoreDevice


class LocalApi:
    """One JSON line each way."""

    def __init__(self, core: "CoreDevice") -> None:
        self._core = core
        self._path = core.device.folder.root / "device.sock"
        self._server: socketserver.ThreadingUnixStreamServer | None = None

    def start(self) -> None:
        core = self._core

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                try:
                    answer = core.answer(json.loads(self.rfile.readline(MAX_LINE_BYTES) or b"{}"))
                except (ScriptFailed, KeyError, ValueError, RuntimeError) as error:
                    answer = {"error": str(error.args[0]) if error.args else str(error)}
                self.wfile.write(json.dumps(answer).encode() + b"\n")

        self._path.unlink(missing_ok=True)
        with short_path(self._path) as name:
            self._server = socketserver.ThreadingUnixStreamServer(name, Handler)
        self._server.daemon_threads = True
        threading.Thread(
            target=self._server.serve_forever, args=(0.2,), name="local-api", daemon=True
        ).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
        self._path.unlink(missing_ok=True)
