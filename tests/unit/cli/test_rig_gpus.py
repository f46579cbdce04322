from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from isthmus.cli.main import main
from isthmus.cli.rig_operation import read_gpus


def test_gpus_are_read_as_they_are_typed() -> None:
    assert read_gpus("0,2") == [0, 2]
    assert read_gpus("none") == []


@pytest.mark.parametrize("text", ["", "all", "0,", "-1", "0 1", "0-1"])
def test_what_is_no_list_of_gpus_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="needs numbers of GPUs, as 0,1, or none"):
        read_gpus(text)


def test_an_agent_for_some_gpus_is_a_service_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["rig", "install", "--name", "lab-1", "--folder", str(tmp_path), "--gpus", "2,3", "--print"]
    assert main([*words, "--json"]) == 0
    out = capsys.readouterr().out
    assert "isthmus-rig-lab-1-gpu-2-3.service" in out
    assert "--gpus" in out
    assert "2,3" in out
