"""plan_dag: contiguous slices of the published throughput graphs, against their published optima.

`ours` is the worst value over the published optimum, `reference` the optimum itself (msr-fiddle's own programme and two
more computed it): 1 is exact. `rows` has every graph, in milliseconds a sample; the second of two runs is timed, since
the first may compile.
"""

from __future__ import annotations

import sys
import time

from benchmarks import workloads
from benchmarks.report import report
from isthmus.planning.slicing import lattice, verify

SECONDS_EACH = 2.0


def main() -> None:
    """Plan each graph, and print a line for it."""
    known, rows = workloads.known_optima(), []
    for name, path in workloads.throughput_graphs().items():
        case = workloads.dnn_partitioning(path, contiguous=True)
        lattice.solve(case)
        started = time.perf_counter()
        found = lattice.solve(case)
        seconds = time.perf_counter() - started
        value = verify.verify(case, found) / workloads.MILLISECOND
        rows.append(
            {
                "graph": name,
                "value": value,
                "known": known.get(name, {}).get("contig"),
                "bound": found.bound / workloads.MILLISECOND,
                "gap": found.gap,
                "seconds": round(seconds, 4),
                "method": found.method,
            }
        )
        print(f"{name:40} {value:12.6f} ms  {seconds:7.3f} s", file=sys.stderr)
    compared = [row["value"] / row["known"] for row in rows if row["known"]]
    if not compared:
        raise SystemExit("none of these graphs has a published optimum to compare with")
    report(
        "plan_dag",
        ours=max(compared),
        reference=1.0,
        unit="of the optimum",
        slowest_seconds=max(row["seconds"] for row in rows),
        all_within_seconds=all(row["seconds"] < SECONDS_EACH for row in rows),
        rows=rows,
        reference_is="the published optimum of each graph",
    )


if __name__ == "__main__":
    main()
