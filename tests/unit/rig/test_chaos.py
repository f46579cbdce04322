"""Agents as real processes, killed while jobs run (docs/adr/0029): the large run is the benchmark `rig_chaos`."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.regional.link import Link

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.slow
def test_killed_agents_lose_nothing_and_apply_nothing_twice() -> None:
    command = [sys.executable, "-m", "benchmarks.rig_chaos", "--jobs", "6", "--kills", "8"]
    command += ["--watches", "1", "--epoch-seconds", "0.6"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    figures = json.loads(done.stdout.splitlines()[-1]) if done.stdout else {}
    assert done.returncode == 0, done.stderr[-3000:]
    assert figures["kills"] == 8
    assert figures["max_recovery_seconds"] <= figures["allowed_recovery_seconds"]
    wrong = (figures["lost"], figures["applied_twice"], figures["trained_twice"])
    assert wrong == (0, 0, 0), done.stderr[-3000:]


@pytest.fixture
def echo() -> Iterator[Link]:
    import socket

    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                near, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=lambda near=near: near.sendall(near.recv(10)), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    link = Link(server.getsockname())
    yield link
    link.close()
    server.close()


def test_a_link_passes_bytes_until_it_is_cut_and_after_it_is_mended(echo: Link) -> None:
    import socket

    address = ("127.0.0.1", int(echo.url.rsplit(":", 1)[1]))

    def ask() -> bytes:
        with socket.create_connection(address, timeout=20) as near:
            near.sendall(b"hello")
            return near.recv(10)

    assert ask() == b"hello"
    with socket.create_connection(address, timeout=20) as open_before:
        echo.cut()
        assert open_before.recv(10) == b""
    with pytest.raises((OSError, AssertionError)):
        assert ask() == b"hello"
    echo.mend()
    assert ask() == b"hello"
