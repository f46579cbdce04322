"""Objects by their addresses, against a server that answers as S3 does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from isthmus.adapters.https import Objects
from isthmus.errors import MissingFile, Unavailable

SECRET = "X-Amz-Signature=0123456789abcdef"


@pytest.fixture
def store() -> Iterator[str]:
    """Keeps what is put; ``/status/N`` answers N to everything."""
    kept: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path.startswith("/status/"):
                self._answer(int(path.rpartition("/")[2]), b"<Error/>")
            else:
                self._answer(200 if path in kept else 403, kept.get(path, b"<Error/>"))

        def do_PUT(self) -> None:
            path = self.path.partition("?")[0]
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if path.startswith("/status/"):
                self._answer(int(path.rpartition("/")[2]), b"")
            else:
                kept[path] = body
                self._answer(200, b"")

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_what_was_put_is_got_and_no_more_than_asked(store: str) -> None:
    Objects().put(f"{store}/a?{SECRET}", b"x" * 1000)
    assert Objects().get(f"{store}/a?{SECRET}", max_bytes=1000) == b"x" * 1000
    assert len(Objects().get(f"{store}/a", max_bytes=10)) == 11, "enough to see that it is too much"


def test_what_is_not_there_is_missing(store: str) -> None:
    """Who may not list a bucket gets 403 for it."""
    for path in ("/absent", "/status/404"):
        with pytest.raises(MissingFile):
            Objects().get(store + path, max_bytes=10)


@pytest.mark.parametrize("status", [302, 500, 503])
def test_any_other_answer_is_trouble_and_quotes_no_address(store: str, status: int) -> None:
    for act in (
        lambda: Objects().get(f"{store}/status/{status}?{SECRET}", max_bytes=10),
        lambda: Objects().put(f"{store}/status/{status}?{SECRET}", b"x"),
        lambda: Objects().put(f"http://127.0.0.1:9/x?{SECRET}", b"x"),
    ):
        with pytest.raises(Unavailable) as error:
            act()
        assert "Signature" not in str(error.value)
