from __future__ import annotations

import pytest

from isthmus.cli.main import main


@pytest.mark.parametrize(
    "options", [["--claim", "abc"], ["--to", "folder"], ["--discard", "abc", "--to", "f"]]
)
def test_a_claim_says_where_the_files_go(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rig", "orphans", "lab-1", *options]) == 2
    assert "--claim JOB and --to FOLDER go together" in capsys.readouterr().err
