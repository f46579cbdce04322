"""rig_chaos: three agents as real processes, killed a hundred times and cut off the network while a hundred jobs run.

The agents use the adapters that ship, over HTTP, through links that are cut; messages are sent twice now and then. The
state machine is the simulation's, on the wall's clock; the functions are the real ones. Kills come before and after
each durable step, and at any moment; jobs are let go at the pace of the kills, so that all of these find work. `lost`
counts jobs that did not succeed, or whose applied result is not there; `recovery` is from a kill to the next start of
the training that it hit.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from pathlib import Path

from benchmarks.regional import chaos
from benchmarks.regional.rigs import be_agent
from benchmarks.report import report

JOBS, KILLS, WATCHES, TOLERANCE_SECONDS, LIMIT_SECONDS = 100, 100, 10, 30, 1500
ALLOWED_SECONDS = TOLERANCE_SECONDS + 2 + 20
"""The lease, the retry interval, one long poll."""


def main() -> int:
    """Run, or be one of the agents."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agent", nargs=2, metavar=("FOLDER", "SEEN"))
    parser.add_argument("--jobs", type=int, default=JOBS)
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument(
        "--watches", type=int, default=WATCHES, help="recoveries that are waited for, at most"
    )
    parser.add_argument("--epoch-seconds", type=float, default=1.2, help="a training has four epochs")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    if chosen.agent:
        folder, seen = (Path(part) for part in chosen.agent)
        be_agent(folder, seen, chosen.epoch_seconds)
        return 0
    plan = chaos.Plan(
        chosen.jobs,
        chosen.kills,
        chosen.watches,
        chosen.epoch_seconds,
        TOLERANCE_SECONDS,
        LIMIT_SECONDS,
        chosen.seed,
    )
    with tempfile.TemporaryDirectory(prefix="isthmus-chaos-") as place:
        figures = chaos.run(Path(place), plan)
    for problem in figures.problems:
        print(problem, file=sys.stderr)
    wrong = figures.lost + figures.applied_twice + figures.trained_twice
    report(
        "rig_chaos",
        ours=wrong,
        reference=chosen.jobs,
        unit="jobs",
        jobs=chosen.jobs,
        allowed_recovery_seconds=ALLOWED_SECONDS,
        all_hold=wrong == 0
        and figures.kills >= chosen.kills
        and figures.max_recovery_seconds <= ALLOWED_SECONDS,
        **{name: value for name, value in dataclasses.asdict(figures).items() if name != "problems"},
        reference_is="the number of jobs; ours counts those lost, applied twice or trained twice under one number",
    )
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
