"""What leaves this machine needs TLS, whoever listens or calls."""

from __future__ import annotations

import pytest

from isthmus import bootstrap_hybrid
from isthmus.errors import InvalidInput
from isthmus.transport.reach import check_secured, is_here


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("10.0.0.5", False),
        ("::", False),
        ("lab-1", False),
        ("localhost.example", False),
    ],
)
def test_only_loopback_is_this_machine(host: str, here: bool) -> None:
    assert is_here(host) == here
    if here:
        check_secured(host, None, "listening at")
        return
    with pytest.raises(InvalidInput, match="leaves this machine, and needs TLS"):
        check_secured(host, None, "listening at")


def test_a_worker_of_hybridize_does_not_listen_for_others_without_tls() -> None:
    with pytest.raises(InvalidInput, match=r"listening at 0\.0\.0\.0 leaves this machine"):
        bootstrap_hybrid.serve("0.0.0.0:0", None)
