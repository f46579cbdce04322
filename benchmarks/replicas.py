"""replicas: a Gluon loop on two replicas, one of them held to half a core, against the sum of their rates alone.

The script is on one core and computes there; a worker is on another core, held to half of it by a cgroup. Alone, each
trains by the plain loop, the slower one under the same quota. Then both train together, with shares by the rates that
are measured meanwhile, and with equal shares. All four take turns; of each the median round counts. ``ratio``: samples
per second together over the sum of those alone. Needs two cores, root and a cgroup with a CPU quota; without them it
says so and ends.
"""

from __future__ import annotations

import os
import socket
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.report import report
from benchmarks.slice_train import Machine, ended
from benchmarks.slicing.namespaces import share_of_a_core
from benchmarks.slicing.processes import end

PROGRAM = Path(__file__).with_name("slicing") / "looping.py"
WORKER = "isthmus.bootstrap_hybrid"
SHARE = 0.5
SAMPLES, ROUNDS, STEPS = 128, 5, 12


def held_alone(machine: Machine, core: int) -> float:
    """Return the rate of the plain loop under the quota."""
    process = machine.start(core, "alone", SAMPLES, STEPS)
    with share_of_a_core(SHARE, process.pid):
        return float(ended(process)["rate"])


def together(machine: Machine, cores: list[int], wish: str) -> Any:
    """Return the rate of both, and the samples that each had in the last step."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        address = f"127.0.0.1:{found.getsockname()[1]}"
    worker = machine.start_module(cores[1], WORKER, address)
    try:
        with share_of_a_core(SHARE, worker.pid):
            return machine.run(cores[0], "together", SAMPLES, STEPS, address, wish)
    finally:
        end(worker)


def main() -> None:
    """Measure in turns."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise SystemExit("needs two cores, one for each replica")
    rates: dict[str, list[float]] = {"full": [], "half": [], "measured": [], "equal": []}
    rows = {}
    with tempfile.TemporaryDirectory() as name:
        machine = Machine(Path(name), PROGRAM)
        for _ in range(ROUNDS):
            rates["full"].append(machine.run(cores[0], "alone", SAMPLES, STEPS)["rate"])
            rates["half"].append(held_alone(machine, cores[1]))
            for wish in ("measured", "equal"):
                found = together(machine, cores, wish)
                rates[wish].append(found["rate"])
                rows[wish] = found["rows"]
            print({key: round(each[-1], 1) for key, each in rates.items()}, rows, file=sys.stderr, flush=True)
    middle = {key: statistics.median(each) for key, each in rates.items()}
    both = middle["full"] + middle["half"]
    report(
        "replicas",
        ours=middle["measured"],
        reference=both,
        unit="samples per second",
        alone=[round(middle["full"], 1), round(middle["half"], 1)],
        equal_shares=round(middle["equal"], 1),
        equal_shares_ratio=round(middle["equal"] / both, 4),
        rows=rows["measured"],
        samples=SAMPLES,
        rounds=ROUNDS,
        share_of_a_core=SHARE,
        reference_is="the sum of both replicas' rates by the plain loop, each alone, in turns; medians",
    )


if __name__ == "__main__":
    main()
