"""control_plane: seconds of a whole pipeline, less what the training script itself took.

Counted from the start of the execution to its end, out of its own history: what is left is states,
functions, the bridge to the rig, the proof, and the roll-out with its two steps of a second. The
reference is the same path through states that do nothing, on the same engine (``floor.py``): no
implementation of these states could be faster there. Ours and the reference alternate.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.demo_time import write_job
from benchmarks.floor import Floor
from benchmarks.report import report
from demo.steps import Demo
from demo.system import System
from isthmus import bootstrap
from isthmus.model import layout
from isthmus.model.execution import Run

ROUNDS = 5
LIMIT_SECONDS = 300


def main() -> None:
    """Measure and report."""
    with tempfile.TemporaryDirectory(prefix="isthmus-bench-") as scratch:
        system = System(Path(".isthmus/bench"), lambda line: print(line, file=sys.stderr))
        demo = Demo(system, "digits")
        try:
            demo.prepare()
            _measure(demo, Path(scratch))
        finally:
            system.close()


def _measure(demo: Demo, scratch: Path) -> None:
    system = demo.system
    os.environ.update({name: value for name, value in system.env.items() if name.startswith("AWS_")})
    outputs, floor = bootstrap.stack_outputs(system.stack), Floor()
    ours, references, trainings, shares = [], [], [], []
    for number in range(1, ROUNDS + 1):
        write_job(demo.example, scratch / str(number), number)
        key = system.push(demo.data, scratch / str(number) / "job.yaml", "digits")
        path, nested = _ended(key, outputs)
        training = _training_seconds(key, outputs)
        ours.append((path.ended_at or 0) - path.started_at - training)
        trainings.append(training)
        shares.append(_spent(path, nested, training))
        references.append(floor.seconds(path, nested))
        print(
            f"round {number}: {ours[-1]:.2f} s besides {training:.2f} s of training; "
            f"states that do nothing {references[-1]:.2f} s",
            file=sys.stderr,
        )
    total = statistics.median(ours)
    medians = {name: statistics.median(spent.get(name, 0.0) for spent in shares) for name in shares[0]}
    for name, seconds in medians.items():
        print(f"{seconds:8.2f} s {seconds / total:6.1%}  {name}", file=sys.stderr)
    report(
        "control_plane",
        ours=total,
        reference=statistics.median(references),
        unit="s",
        training=round(statistics.median(trainings), 2),
        share={name: round(seconds / total, 3) for name, seconds in medians.items()},
        rounds=ROUNDS,
        reference_is="the same path through states that do nothing, on the same engine",
    )


def _ended(key: str, outputs: dict[str, str]) -> tuple[Run, Run]:
    """Wait for a pipeline's end; return its execution and the roll-out nested in it."""
    pipeline, deadline = bootstrap.pipeline(outputs), time.monotonic() + LIMIT_SECONDS
    while (run := pipeline.run(key)) is None or run.status == "RUNNING":
        if time.monotonic() > deadline:
            raise SystemExit(f"the pipeline of {key} did not end within {LIMIT_SECONDS} s")
        time.sleep(0.5)
    if run.status != "SUCCEEDED":
        raise SystemExit(f"the pipeline of {key} ended {run.status}: {run.error} {run.cause}")
    (nested,) = [visit.nested for visit in run.visits if visit.nested]
    return run, pipeline.nested(nested)


def _training_seconds(key: str, outputs: dict[str, str]) -> float:
    """Return what the rig measured of the script and its export."""
    lease = bootstrap.records(outputs["Table"]).get(layout.job_pk(key), layout.LEASE) or {}
    return float(lease["outcome"]["seconds"])


def _spent(path: Run, nested: Run, training: float) -> dict[str, float]:
    """Return the seconds of each state, TrainOnRig's without the training; a nested state below its own."""
    spent: dict[str, float] = {}
    for prefix, run in (("", path), ("DeployCloud/", nested)):
        for visit in run.visits:
            name = prefix + visit.state
            stay = (visit.left_seconds or visit.entered_seconds) - visit.entered_seconds
            spent[name] = spent.get(name, 0.0) + stay
    spent["TrainOnRig"] -= training
    return {name: seconds for name, seconds in spent.items() if seconds >= 0.001}


if __name__ == "__main__":
    main()
