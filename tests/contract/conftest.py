"""Every port's contract runs on the fake that ships and on the real adapter, which talks to moto."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import boto3
import pytest
from moto import mock_aws

from isthmus.adapters.aws.session import client

REGION = "eu-west-1"


@functools.cache
def session() -> boto3.Session:
    """One for all tests: each reads the services' models anew, which takes longer than most of the tests."""
    return boto3.Session()


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty account; lambda functions answer without Docker."""
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "testing"),
        ("AWS_SECRET_ACCESS_KEY", "testing"),
        ("AWS_SESSION_TOKEN", "testing"),
        ("AWS_DEFAULT_REGION", REGION),
    ):
        monkeypatch.setenv(name, value)
    for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    client.cache_clear()
    with mock_aws(config={"lambda": {"use_docker": False}}):
        # moto takes its own away again when it ends.
        monkeypatch.setattr(boto3, "DEFAULT_SESSION", session())
        yield
    client.cache_clear()


@pytest.fixture
def served_zip() -> Iterator[str]:
    """A function's code at a presigned address: an empty zip archive behind plain HTTP."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"PK\x05\x06" + bytes(18))

        def log_message(self, format: str, *args: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/code.zip"
    server.shutdown()
    server.server_close()
    thread.join()
