from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "frameworks"))
sys.path.insert(0, str(Path(__file__).parent))

from workflow_world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)
