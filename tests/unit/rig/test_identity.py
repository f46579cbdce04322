from __future__ import annotations

from pathlib import Path

import pytest

from isthmus.errors import EnvironmentProblem
from isthmus.rig.identity import agent_id, sole_agent


def test_an_agent_keeps_its_id_and_another_folder_has_another(tmp_path: Path) -> None:
    first = agent_id(tmp_path / "a")
    assert agent_id(tmp_path / "a") == first
    assert agent_id(tmp_path / "b") != first


def test_a_folder_has_one_agent_and_is_free_after_it(tmp_path: Path) -> None:
    with (
        sole_agent(tmp_path),
        pytest.raises(EnvironmentProblem, match="another agent works in"),
        sole_agent(tmp_path),
    ):
        raise AssertionError("two agents in one folder")
    with sole_agent(tmp_path):
        assert (tmp_path / "agent.lock").exists()
