"""Slices that learn, killed while the line between them fails (docs/adr/0047): the large run is the benchmark
`slice_chaos`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.slow
def test_what_is_learned_under_faults_is_what_is_learned_without_to_the_bit() -> None:
    command = [sys.executable, "-m", "benchmarks.slice_chaos"]
    command += ["--faults", "4", "--each", "6", "--steps", "100"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["faults_in_all"] >= 4
    assert figures["unequal"] == 0
