from __future__ import annotations

import socket

import pytest

from isthmus.cli.main import main


def test_a_port_that_is_taken_is_told_so(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert (
            main(["proxy", "--api", "https://x.execute-api.eu-west-1.amazonaws.com/v", "--port", str(port)])
            == 1
        )
    said = capsys.readouterr().err
    assert f"port {port} of 127.0.0.1 cannot be listened on" in said
    assert "--port" in said


def test_a_port_that_is_none_is_told_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["proxy", "--api", "https://x", "--port", "70000"]) == 1
    assert "cannot be listened on" in capsys.readouterr().err
