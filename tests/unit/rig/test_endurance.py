from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

MIB = 2**20


@pytest.mark.slow
def test_an_agent_is_as_small_after_a_thousand_jobs_as_after_a_hundred(tmp_path: Path) -> None:
    script = Path(__file__).with_name("endurance.py")
    done = subprocess.run(
        [sys.executable, script, tmp_path, "1000"], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert told[-1]["ended"] == 1000
    assert max(entry["resident_bytes"] for entry in told) < 150 * MIB
    assert told[-1]["resident_bytes"] - told[0]["resident_bytes"] < 4 * MIB
    assert told[-1]["threads"] == told[0]["threads"]
