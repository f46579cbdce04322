"""A training that prints one line of so many bytes without an end, under the real runner, in a process of its own.

Called by ``test_joblog``: a folder, then how many bytes. Prints one line of JSON: what was kept, and what it took.
"""

from __future__ import annotations

import json
import re
import sys
import threading
from pathlib import Path

from rig_world import World
from test_runner import request

ONE_LONG_LINE = """
import os, sys
piece, left = b"x" * 2**20, int(sys.argv[-1])
while left:
    left -= os.write(1, piece[:left])
os.write(1, b"\\naccuracy=0.5\\n")
raise SystemExit(3)
"""


def peak_bytes() -> int:
    """Return the most memory that this process held, as proc(5) counts it.

    ``getrusage`` would count what the process held that started this one: its peak outlives an exec.
    """
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)[0]) * 1024


def main(folder: Path, size_bytes: int) -> None:
    world, longest = World(folder), 0

    def hear(line: str) -> None:
        nonlocal longest
        longest = max(longest, len(line))

    asked = request(world, {"train.py": ONE_LONG_LINE}, hyperparameters={"bytes": size_bytes})
    done = world.runner(on_line=hear).run(asked, threading.Event())
    log = done.output / "train.log"
    of_lines = of_the_log = kept = 0
    with log.open("rb") as file:
        for line in file:
            if line.startswith(b"isthmus: "):
                of_the_log += int(line.split()[1])
            elif line.startswith(b"x"):
                text, _, mark = line.partition(b" [isthmus: ")
                kept += text.count(b"x")
                of_lines += int(mark.split()[0]) if mark else 0
    print(
        json.dumps(
            {
                "exit_code": done.exit_code,
                "metrics": done.metrics,
                "longest": longest,
                "log_bytes": log.stat().st_size,
                "kept": kept,
                "left_out_of_lines": of_lines,
                "left_out_of_the_log": of_the_log,
                "peak_bytes": peak_bytes(),
            }
        )
    )


main(Path(sys.argv[1]), int(sys.argv[2]))
