from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

MIB = 2**20
IN_MEMORY = Path("/dev/shm")


@pytest.fixture
def quick_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: a thousand jobs wait for a disk 20,000 times, and it is the agent's memory
    that is looked at. What lies in it counts for no process's ``VmRSS``."""
    if not os.access(IN_MEMORY, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
        yield Path(folder)


@pytest.mark.slow
def test_an_agent_is_as_small_after_a_thousand_jobs_as_after_a_hundred(quick_folder: Path) -> None:
    script = Path(__file__).with_name("endurance.py")
    done = subprocess.run(
        [sys.executable, script, quick_folder, "1000"],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert told[-1]["ended"] == 1000
    assert max(entry["resident_bytes"] for entry in told) < 150 * MIB
    assert told[-1]["resident_bytes"] - told[0]["resident_bytes"] < 4 * MIB
    assert told[-1]["threads"] == told[0]["threads"]
