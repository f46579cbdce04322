"""plan_free: slices that may lie anywhere, of the published throughput graphs, against the best values known.

`ours` is the worst value over the best one listed, `reference` that value itself: at most 1 is no worse. `rows` has
every graph, in milliseconds a sample, with the bound that was proven in the time that it had. Compiled code is warmed
up on a small case first, so that the seconds are those of planning.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import workloads
from benchmarks.report import report
from isthmus.planning.slicing import choose, verify
from isthmus.planning.slicing.case import Graph, LoadCase, Signal

SECONDS_EACH = 60.0
LARGEST_GAP = 0.055


def main() -> None:
    """Plan each graph, and print a line for it."""
    known = workloads.known_optima()
    graphs = workloads.throughput_graphs()
    choose.solve(_small(), time_limit_seconds=5.0)
    rows = [_row(name, path, known.get(name, {}).get("noncontig")) for name, path in graphs.items()]
    compared = [row["value"] / row["known"] for row in rows if row["known"]]
    if not compared:
        raise SystemExit("none of these graphs has a value to compare with")
    worst = max(row["gap"] for row in rows)
    report(
        "plan_free",
        ours=max(compared),
        reference=1.0,
        unit="of the best known",
        worst_gap=worst,
        worst_gap_goal=LARGEST_GAP,
        gaps_hold=worst <= LARGEST_GAP,
        slowest_seconds=max(row["seconds"] for row in rows),
        rows=rows,
        reference_is="the best value listed for each graph, by mixed-integer and constraint programmes",
    )


def _row(name: str, path: Path, listed: list[float] | None) -> dict[str, Any]:
    """Plan one graph; ``listed``: the best value and bound known, in milliseconds."""
    case = workloads.dnn_partitioning(path, contiguous=False)
    started = time.perf_counter()
    found = choose.solve(case, time_limit_seconds=SECONDS_EACH)
    seconds = time.perf_counter() - started
    value = verify.verify(case, found) / workloads.MILLISECOND
    print(f"{name:40} {value:12.6f} ms  gap {found.gap:8.4%}  {seconds:7.2f} s", file=sys.stderr)
    return {
        "graph": name,
        "value": value,
        "known": listed[0] if listed else None,
        "bound": found.bound / workloads.MILLISECOND,
        "gap": found.gap,
        "seconds": round(seconds, 2),
        "method": found.method,
        "given_up": found.given_up,
    }


def _small() -> LoadCase:
    """Return a case of the same shape that takes no time, so that compiling is not counted."""
    signals = tuple(Signal(v, (v + 1,), 1e-3 * (1 + v % 3)) for v in range(9))
    side = np.array([1.0, 1.0, 0.0])
    return LoadCase(
        graph=Graph(tuple(f"op{v}" for v in range(10)), signals),
        devices=("acc-0", "acc-1", "cpu-0"),
        seconds=np.array([[1e-3 * (1 + v % 4)] * 2 + [1e-2] for v in range(10)]),
        memory_bytes=np.ones(10),
        capacity_bytes=np.array([8.0, 8.0, np.inf]),
        send_seconds=np.repeat(side[:, None], 3, axis=1),
        receive_seconds=np.repeat(side[None, :], 3, axis=0),
        contiguous=False,
    )


if __name__ == "__main__":
    main()
