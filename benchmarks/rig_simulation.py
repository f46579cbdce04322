"""rig_simulation: the bridge's real code under a seeded scheduler, in as many worlds as seeds; violations are counted.

`python -m benchmarks.rig_simulation --seed N` replays one world and prints its trace. `--seeds N` runs so many
(100,000 by default), `--first N` says from which on.
"""

from __future__ import annotations

import argparse
import collections
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator

from benchmarks.report import report
from benchmarks.simulation.world import Result, simulate

SEEDS = 100_000
SHOWN = 10


def main() -> int:
    """Run; return 1 when something was violated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, help="replay one world, with its trace")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="how many worlds")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    chosen = parser.parse_args()
    if chosen.seed is not None:
        return _replay(chosen.seed)
    return _run(chosen.first, chosen.seeds)


def _replay(seed: int) -> int:
    result = simulate(seed, trace=True)
    print("\n".join(result.trace))
    print(f"seed {seed}: jobs {', '.join(result.statuses)}; {result.kills} kills")
    for violation in result.violations:
        print(f"VIOLATED: {violation}")
    return int(bool(result.violations))


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
