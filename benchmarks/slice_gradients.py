"""slice_gradients: what gradients in eight bits cost a training in two slices: points of accuracy on Fashion-MNIST.

Three dense layers in MXNet, cut behind the first; each seed is another beginning and another order of the samples, the
same for both ways. ``ours`` is the mean of what int8 with error feedback loses on the 10,000 test images, in points
(below zero: it gains); the accuracy of each training is printed beside it. The dataset is Debian's
(``dataset-fashion-mnist``); where it is not, this script says so and ends.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.report import report
from benchmarks.slice_train import Machine
from benchmarks.slicing.fashion import dataset

PROGRAM = Path(__file__).with_name("slicing") / "rounding.py"
SEEDS = range(1, 6)


def main() -> None:
    """Train both ways with each seed."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        machine = Machine(Path(name), PROGRAM)
        data = dataset(Path(name) / "data")
        for seed in SEEDS:
            rows.append(machine.run(min(os.sched_getaffinity(0)), data, seed))
            print(rows[-1], file=sys.stderr, flush=True)
    whole, rounded = ([row[way] * 100 for row in rows] for way in ("whole", "int8"))
    lost = [a - b for a, b in zip(whole, rounded, strict=True)]
    report(
        "slice_gradients",
        ours=statistics.mean(lost),
        reference=statistics.mean(whole),
        unit="points of accuracy lost",
        int8_accuracy=round(statistics.mean(rounded), 3),
        lost=[round(each, 2) for each in lost],
        between_seeds=round(statistics.stdev(whole), 3),
        crossing_bytes_ratio=round(rows[0]["whole_bytes"] / rows[0]["int8_bytes"], 3),
        rows=rows,
        reference_is="the accuracy with gradients of 32 bits, the mean over seeds; between_seeds: its deviation",
    )


if __name__ == "__main__":
    main()
