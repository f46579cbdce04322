"""slice_simulation: the shipped workers of a training in slices under a seeded scheduler, in as many worlds as seeds.

Violations are counted: a training that does not end, or not with the undisturbed one's arrays to the bit; a commit
of what some slice has not on its disk. `python -m benchmarks.slice_simulation --seed N` replays one world and prints
its trace. `--seeds N` runs so many (100,000 by default), `--first N` says from which on.
"""

from __future__ import annotations

import collections
import multiprocessing
import os
import sys
import time
from functools import partial

from benchmarks.report import report
from benchmarks.simulation.seeds import SHOWN, main_of
from benchmarks.slicing.parts import Result
from benchmarks.slicing.simulated import simulate


def main() -> int:
    """Run; return 1 when something was violated."""
    return main_of(__doc__, _run, partial(simulate, trace=True), _describe)


def _describe(result: Result) -> str:
    return f"{result.kills} kills, {result.breaks} breaks"


def _run(first: int, count: int) -> int:
    started, violated = time.perf_counter(), []
    totals: collections.Counter[str] = collections.Counter()
    longest = 0.0
    with multiprocessing.get_context("spawn").Pool(len(os.sched_getaffinity(0))) as pool:
        for result in pool.imap_unordered(simulate, range(first, first + count), chunksize=50):
            totals.update(kills=result.kills, breaks=result.breaks, turns=result.turns)
            longest = max(longest, result.seconds)
            if result.violations:
                violated.append(result.seed)
                if len(violated) <= SHOWN:
                    print(f"seed {result.seed}: {'; '.join(result.violations)}", file=sys.stderr)
    report(
        "slice_simulation",
        ours=len(violated),
        reference=count,
        unit="violations",
        seeds=count,
        first_seed=first,
        violated=violated[:SHOWN],
        **totals,
        longest_virtual_seconds=round(longest, 1),
        seconds=round(time.perf_counter() - started, 1),
        reference_is="the number of worlds, each of another seed",
    )
    return int(bool(violated))


if __name__ == "__main__":
    sys.exit(main())
