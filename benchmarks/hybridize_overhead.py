"""hybridize_overhead: a Gluon tutorial's loop on one device, with ``isthmus.hybridize`` and without.

One process on one core, MXNet, a small convolutional network. Four loops take turns: the plain block; the block
hybridized by Gluon with static memory and shapes, which is the reference at its fastest; the same with the line
``isthmus.hybridize(net)``, which leaves one device's network as it is; and the network cut in two slices that both run
in this process. All must come to the same losses to the bit. ``ratio`` is the third over the second, of each the
quickest round; what two slices take is printed beside it.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from benchmarks.report import report
from benchmarks.slice_train import Machine

PROGRAM = Path(__file__).with_name("slicing") / "looping.py"
SAMPLES, ROUNDS, STEPS = 32, 11, 8


def main() -> None:
    """Measure in turns."""
    with tempfile.TemporaryDirectory() as name:
        machine = Machine(Path(name), PROGRAM)
        found = machine.run(min(os.sched_getaffinity(0)), "overhead", SAMPLES, ROUNDS, STEPS)
    print(found, file=sys.stderr)
    if not found["equal"]:
        raise SystemExit("the loops must come to the same losses to the bit, and did not")
    quickest = {name: min(seconds) * 1e3 for name, seconds in found["seconds"].items()}
    report(
        "hybridize_overhead",
        ours=quickest["one slice"],
        reference=quickest["hybridized"],
        unit="ms of a step",
        plain_ms=round(quickest["plain"], 3),
        two_slices_ms=round(quickest["two slices"], 3),
        two_slices_over_plain=round(quickest["two slices"] / quickest["plain"], 4),
        two_slices_over_reference=round(quickest["two slices"] / quickest["hybridized"], 4),
        losses_equal=found["equal"],
        samples=SAMPLES,
        rounds=ROUNDS,
        reference_is="the same loop with net.hybridize(static_alloc=True, static_shape=True), in turns; quickest",
    )


if __name__ == "__main__":
    main()
