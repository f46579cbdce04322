"""What `isthmus edge serve` refuses before it asks anybody; that it serves is the demo's last step."""

from __future__ import annotations

from pathlib import Path

import pytest

from isthmus.cli.main import main


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--slices", "slices"], "--slices needs --policy FILE"),
        (["--threads", "0"], "--threads needs a number from 1 to 1024, not 0"),
        (["--results", "core"], "--results needs --policy FILE"),
        (["--results-seconds", "0"], "--results-seconds needs a number up to 86400, not 0"),
    ],
)
def test_a_mistake_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(["edge", "serve", "digits", "--folder", str(tmp_path / "device"), *arguments]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "device").exists()
