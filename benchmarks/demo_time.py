"""demo_time: seconds from the upload of a dataset to a prediction of its model, in cloud and edge.

The reference is the same work by hand, without anything around it: the example's script run by the
same interpreter, its export and parity check, and one prediction with onnxruntime. What we add is
the upload, the pipeline, the proof, the roll-out (two steps of a second) and the edge deployment.

Each round is a job of its own (the script's text differs by a comment), on one system that is set
up before the first; ours and the reference alternate.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.report import report
from demo.samples import held_out
from demo.steps import Demo
from demo.system import System
from isthmus.inference.datatypes import NUMPY

ROUNDS = 5


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
    sample = held_out("digits", demo.data, 1)[0]
    rounds, references, steps = [], [], []
    for number in range(1, ROUNDS + 1):
        folder = scratch / str(number)
        write_job(demo.example, folder, number)
        cloud, edge, spent = _path(demo, folder / "job.yaml", sample, number)
        rounds.append((cloud, edge))
        steps.append(spent)
        references.append(_by_hand(system, demo.data, folder, sample))
        print(
            f"round {number}: cloud {cloud:.1f} s, edge {edge:.1f} s, by hand {references[-1]:.1f} s",
            file=sys.stderr,
        )
    names = {name: statistics.median(spent.get(name, 0.0) for spent in steps) for name in steps[-1]}
    both = [max(pair) for pair in rounds]
    ours = statistics.median(both)
    report(
        "demo_time",
        ours=ours,
        reference=statistics.median(references),
        unit="s",
        to_cloud=round(statistics.median(cloud for cloud, _ in rounds), 2),
        to_edge=round(statistics.median(edge for _, edge in rounds), 2),
        share={name: round(seconds / ours, 3) for name, seconds in names.items()},
        rounds=ROUNDS,
        reference_is="the example's script, export and one onnxruntime prediction, run by hand",
    )


def write_job(example: Path, folder: Path, number: int) -> None:
    """Write a job of its own: the example with another comment in its script."""
    shutil.copytree(example, folder, ignore=shutil.ignore_patterns("__pycache__"))
    script = folder / "train.py"
    script.write_text(f"# round {number} {time.time_ns()}\n" + script.read_text())


def _path(
    demo: Demo, job: Path, sample: dict[str, Any], release: int
) -> tuple[float, float, dict[str, float]]:
    """Push, and ask both sides until the new release answers; return both times and each step's."""
    import numpy as np

    from isthmus import Client
    from isthmus.adapters.aws.stack import outputs

    system = demo.system
    # One request each: a side that has no answer yet is asked again soon.
    sides = {
        "cloud": Client(api=outputs(system.stack)["ApiUrl"], attempts=1),
        "edge": Client(edge=system.edge_url, attempts=1),
    }
    raw = np.array(sample["pixels"], NUMPY[sample["datatype"]]).reshape(sample["shape"])
    started = time.monotonic()
    key = system.push(demo.data, job, "digits")
    reached: dict[str, float] = {}
    while len(reached) < 2:
        for side, client in sides.items():
            if side not in reached and _answers(client, raw, release):
                reached[side] = time.monotonic() - started
        if time.monotonic() - started > 300:
            raise SystemExit(f"release {release} was not reached: {system.job(key)}")
        time.sleep(0.1)
    while system.job(key)["state"] == "RUNNING":
        time.sleep(0.5)
    return reached["cloud"], reached["edge"], _durations(system.job(key)["steps"])


def _answers(client: Any, raw: Any, release: int) -> bool:
    from isthmus.errors import IsthmusError

    try:
        answer = client.infer("digits", {"raw": raw}, preprocess=True)
    except IsthmusError:
        return False
    return bool(answer.version == str(release))


def _durations(steps: list[list[Any]]) -> dict[str, float]:
    ends = [*(seconds for _, seconds in steps[1:]), steps[-1][1]]
    spent: dict[str, float] = {}
    for (name, start), end in zip(steps, ends, strict=True):
        spent[name] = spent.get(name, 0.0) + end - start
    return spent


def _by_hand(system: System, data: Path, folder: Path, sample: dict[str, Any]) -> float:
    """Train, export and predict without the pipeline; return the seconds."""
    import numpy as np

    from isthmus.rig.environments import Environments, source_folder

    rig = system.folder / "rig"
    python = Environments(rig / "environments").ensure("mxnet", "1.9.1")
    out = folder / "model"
    out.mkdir()
    variables = {
        "PYTHONPATH": str(source_folder(rig)),
        "PATH": os.environ["PATH"],
        "SM_MODEL_DIR": str(out),
        "SM_CHANNEL_TRAIN": str(data / "train"),
        "SM_CHANNEL_TEST": str(data / "test"),
        "SM_OUTPUT_DATA_DIR": str(folder),
    }
    started = time.monotonic()
    launch = [python, "-P", "-m", "isthmus.frameworks.launch", "--framework", "mxnet", "--", "train.py"]
    for command in (
        [*launch, "--epochs", "15", "--learning-rate", "0.002"],
        [
            python,
            "-P",
            "-m",
            "isthmus.frameworks.export",
            "--framework",
            "mxnet",
            "--model-dir",
            out,
            "--tolerance",
            "1e-4",
        ],
    ):
        arguments = [str(part) for part in command]
        done = subprocess.run(
            arguments, env=variables, cwd=folder, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise SystemExit(f"the reference failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    from isthmus.inference.runtime import load_onnxruntime

    session = load_onnxruntime().InferenceSession(str(out / "model.onnx"), providers=["CPUExecutionProvider"])
    image = np.asarray(sample["pixels"], "float32").reshape(1, 1, 8, 8) / np.float32(16)
    session.run(None, {session.get_inputs()[0].name: image})
    return time.monotonic() - started


if __name__ == "__main__":
    main()
