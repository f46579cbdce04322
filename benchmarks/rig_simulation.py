"""rig_simulation: the bridge's real code under a seeded scheduler, in as many worlds as seeds; violations are counted.

`python -m benchmarks.rig_simulation --seed N` replays one world and prints its trace. `--seeds N` runs so many
(100,000 by default), `--first N` says from which on.
"""

from __future__ import annotations

import collections
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from functools import partial

from benchmarks.report import report
from benchmarks.simulation.seeds import SHOWN, main_of
from benchmarks.simulation.world import Result, simulate


def main() -> int:
    """Run; return 1 when something was violated."""
    return main_of(__doc__, _run, partial(simulate, trace=True), _describe)


def _describe(result: Result) -> str:
    return f"jobs {', '.join(result.statuses)}; {result.kills} kills"


def _run(first: int, count: int) -> int:
    started, violated = time.perf_counter(), []
    totals: collections.Counter[str] = collections.Counter()
    recoveries = [0.0]
    for result in _results(range(first, first + count)):
        totals.update(result.statuses)
        totals.update(kills=result.kills, turns=result.awaits, orphans=result.orphans)
        recoveries.append(result.recovery_seconds or 0.0)
        if result.violations:
            violated.append(result.seed)
            if len(violated) <= SHOWN:
                print(f"seed {result.seed}: {'; '.join(result.violations)}", file=sys.stderr)
    report(
        "rig_simulation",
        ours=len(violated),
        reference=count,
        unit="violations",
        seeds=count,
        first_seed=first,
        violated=violated[:SHOWN],
        turns=totals["turns"],
        kills=totals["kills"],
        orphans=totals["orphans"],
        jobs={name: totals[name] for name in ("SUCCEEDED", "FAILED", "ABORTED")},
        max_recovery_seconds=round(max(recoveries), 1),
        seconds=round(time.perf_counter() - started, 1),
        reference_is="the number of worlds, each of another seed",
    )
    return int(bool(violated))


def _results(seeds: range) -> Iterator[Result]:
    """Each world is alone in its thread; processes share the seeds."""
    with multiprocessing.get_context("spawn").Pool(len(os.sched_getaffinity(0))) as pool:
        yield from pool.imap_unordered(simulate, seeds, chunksize=50)


if __name__ == "__main__":
    sys.exit(main())
