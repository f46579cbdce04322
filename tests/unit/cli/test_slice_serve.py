"""What `isthmus slice serve` refuses, in a sentence, before anything is opened."""

from __future__ import annotations

from pathlib import Path

import pytest

from isthmus.cli.main import main
from isthmus.cli.slice_serve import address
from isthmus.errors import InvalidInput


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "needs --slice N"),
        (
            ["--slice", "0", "--listen", "7000"],
            "needs --listen as HOST:PORT, for example 127.0.0.1:7000; it is '7000'",
        ),
        (["--slice", "0", "--next", "host:70000"], "needs --next as HOST:PORT"),
        (["--slice", "1", "--listen", "0.0.0.0:7000"], "--listen 0.0.0.0 leaves this machine, and needs TLS"),
        (["--slice", "0", "--next", "10.0.0.5:7000"], "--next 10.0.0.5 leaves this machine, and needs TLS"),
        (["--slice", "0", "--peer", "tail"], "TLS needs all of --certificate, --key, --authority and --peer"),
        (["--slice", "0", "--threads", "0"], "needs --threads of at least 1, not 0"),
        (
            ["--slice", "0", "--public-key", "nowhere.der"],
            "nowhere.der cannot be read: No such file or directory",
        ),
        (["--slice", "0"], "cannot be read: No such file or directory"),
        (["--slice", "0", "--plan", "plan.json"], "`isthmus slice serve` does not take --plan"),
    ],
)
def test_what_cannot_be_served_is_refused_in_a_sentence(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["slice", "serve", str(tmp_path / "slices"), *words]) == 2
    assert said in capsys.readouterr().err


def test_an_address_may_be_a_name_or_of_ipv6() -> None:
    assert address("rig-1:80", "--next") == ("rig-1", 80)
    assert address("[::1]:7000", "--next") == ("::1", 7000)
    with pytest.raises(InvalidInput, match="needs --next as HOST:PORT"):
        address(":7000", "--next")
