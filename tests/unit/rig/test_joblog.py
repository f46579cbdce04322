from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from rig_world import World
from test_runner import request

from isthmus.adapters.system import SystemThreads
from isthmus.model.units import MIB
from isthmus.rig.joblog import MAX_LOG_BYTES, JobLog


def test_a_short_log_is_kept_whole(tmp_path: Path) -> None:
    with JobLog(tmp_path / "log", head_bytes=100, tail_bytes=40) as log:
        log.write(b"one\n")
        log.write(b"two\n")
        assert (tmp_path / "log").read_bytes() == b"one\ntwo\n", "it can be followed"
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


@pytest.mark.parametrize("lines", [11, 12, 15, 1000])
def test_of_a_long_log_beginning_and_end_are_kept_and_the_rest_is_counted(tmp_path: Path, lines: int) -> None:
    with JobLog(tmp_path / "log", head_bytes=100, tail_bytes=40) as log:
        for number in range(lines):
            log.write(b"%09d\n" % number)
            assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 140
    kept = (tmp_path / "log").read_text().splitlines()
    assert kept[:10] == [f"{number:09d}" for number in range(10)]
    assert kept[-1] == f"{lines - 1:09d}"
    marks = [line for line in kept if line.startswith("isthmus: ")]
    left_out = lines - (len(kept) - len(marks))
    assert marks == ([f"isthmus: {left_out * 10} bytes of the log are left out here"] if left_out else [])
    assert left_out in (0, lines - 12, lines - 13, lines - 14)
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


ONE_LONG_LINE = """
import sys
piece = "x" * 1_000_000
for _ in range(8):
    sys.stdout.write(piece)
print()
print("accuracy=0.5")
raise SystemExit(3)
"""


def test_a_line_without_end_fills_neither_memory_nor_disk(world: World) -> None:
    lines: list[int] = []
    runner = world.runner(log_bytes=100_000, on_line=lambda line: lines.append(len(line)))
    done = runner.run(request(world, {"train.py": ONE_LONG_LINE}), SystemThreads().flag())
    assert (done.exit_code, done.metrics["accuracy"]) == (3, 0.5)
    assert max(lines) <= 16_384
    assert (done.output / "train.log").stat().st_size < 300_000
    assert "bytes of the log are left out here" in (done.output / "train.log").read_text()


@pytest.mark.slow
def test_a_line_of_ten_gigabytes_is_survived_with_the_settings_that_ship(tmp_path: Path) -> None:
    script = Path(__file__).with_name("long_line.py")
    command = [sys.executable, script, tmp_path, str(10 * 10**9)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert (seen["exit_code"], seen["metrics"]) == (3, {"accuracy": 0.5}), "what came after it was heard"
    assert seen["longest"] <= 16_384
    assert MAX_LOG_BYTES / 2 < seen["log_bytes"] < MAX_LOG_BYTES + MIB
    assert seen["left_out_of_lines"] > seen["kept"] > 0
    assert seen["left_out_of_the_log"] > MAX_LOG_BYTES
    assert seen["peak_bytes"] < 150 * MIB
