"""slice_train: training in two slices on one core each, against 1F1B as simulated from the slices' times alone.

The network is a chain of equal layers in MXNet. Each slice runs by itself on its core: the least seconds of its
forward pass, its backward pass and its optimizer's step are what the simulator gets, and transfers that take no time.
The cut is the one, of two in the middle, whose slices are nearest to each other; they must be within a tenth. Then
two workers train, joined by the direct stream, in eight micro-batches (four for each slice). ``ratio`` is the
simulated step over the quickest measured one, from the first worker's step to its next.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.report import report
from isthmus.planning.slicing.passes import passes, rows_of, straight
from isthmus.planning.slicing.simulate import Times, simulate
from isthmus.rig.environments import Environments, source_folder

CACHE = Path(__file__).parents[1] / ".isthmus" / "environments"
PROGRAM = Path(__file__).with_name("slicing") / "learning.py"
LENT = ("msgspec", "xxhash")
"""Not in MXNet's environment; lent by this interpreter, which is of the same version."""
STAGES, MICROBATCHES, SAMPLES, STEPS = 2, 8, 512, 40
ROWS = 1024
CUTS = (11, 12)
APART = 0.1
"""By how much the slices' seconds may differ."""


class Machine:
    """Runs the program in MXNet's environment, each process on a core."""

    def __init__(self, folder: Path, program: Path = PROGRAM) -> None:
        self.folder = folder
        self._program = program
        self._python = Environments(CACHE).ensure("mxnet", "1.9.1")
        source, lent = source_folder(CACHE), folder / "lent"
        lent.mkdir()
        for name in LENT:
            spec = importlib.util.find_spec(name)
            if spec is None or spec.origin is None:
                raise SystemExit(f"needs {name}: install `isthmus[slices]`")
            (lent / name).symlink_to(Path(spec.origin).parent)
        self._launch = f"{source}/isthmus/frameworks/launch.py"
        self._environment = {
            "PATH": os.defpath,
            "PYTHONPATH": f"{source}{os.pathsep}{lent}",
            "OMP_NUM_THREADS": "1",
            "MXNET_MKLDNN_ENABLED": "0",
            "MXNET_STORAGE_FALLBACK_LOG_VERBOSE": "0",
        }

    def start(self, core: int, *arguments: object) -> subprocess.Popen[str]:
        """Start the program; it prints one line of JSON."""
        command = [str(self._python), "-P", self._launch, "--framework", "mxnet", "--", str(self._program)]
        return self._open(core, [*command, *map(str, arguments)])

    def start_module(self, core: int, module: str, *arguments: object) -> subprocess.Popen[str]:
        """Start a module of isthmus."""
        return self._open(core, [str(self._python), "-P", "-m", module, *map(str, arguments)])

    def _open(self, core: int, command: list[str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            env=self._environment,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=partial(os.sched_setaffinity, 0, {core}),
        )

    def run(self, core: int, *arguments: object) -> Any:
        """Run it to its end; return what it printed."""
        return ended(self.start(core, *arguments))


def ended(process: subprocess.Popen[str]) -> Any:
    """Return what a process printed.

    Raises:
        SystemExit: it failed; its own words stand on standard error.
    """
    said, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"a process of the benchmark ended with {process.returncode}")
    return json.loads(said.splitlines()[-1])


def balanced(machine: Machine, cores: list[int]) -> tuple[int, list[list[float]]]:
    """Return the cut whose slices take most nearly as long, and each slice's seconds: forward, backward, step."""
    found = {}
    for cut in CUTS:
        found[cut] = [
            machine.run(cores[k], "alone", machine.folder, cut, k, SAMPLES // MICROBATCHES)
            for k in range(STAGES)
        ]
        print(cut, found[cut], file=sys.stderr, flush=True)
    return min(found.items(), key=lambda entry: apart(entry[1]))


def apart(seconds: list[list[float]]) -> float:
    """Return by how much two slices differ, as a share of the longer one."""
    each = [forward + backward for forward, backward, _ in seconds]
    return 1 - min(each) / max(each)


def simulated(seconds: list[list[float]]) -> float:
    """Return a step's seconds as the simulator has it."""
    places = straight(STAGES)
    columns = [list(column) for column in zip(*seconds, strict=True)]
    nothing = [0.0] * (STAGES - 1)
    rows = rows_of(places, passes(places, MICROBATCHES))
    return simulate(rows, Times(columns[0], columns[1], nothing, nothing, columns[2])).seconds


def trained(machine: Machine, cores: list[int], cut: int) -> tuple[list[float], list[float]]:
    """Train; return the seconds of each step, as the first worker has them, and those that each worker computed in its
    quickest step."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        address = f"127.0.0.1:{found.getsockname()[1]}"
    common = {
        "framework": "mxnet",
        "model": str(machine.folder),
        "cuts": [cut],
        "rows": ROWS,
        "samples": SAMPLES,
        "microbatches": MICROBATCHES,
        "steps": STEPS,
        "every": STEPS,
        "options": {"learning_rate": 1e-4, "momentum": 0.9},
    }
    own: list[dict[str, Any]] = [
        {"inputs": {"data": str(machine.folder / "data.npy")}, "listen": address},
        {"inputs": {"label": str(machine.folder / "label.npy")}, "peers": {"0": address}},
    ]
    running = []
    for worker in range(STAGES):
        job = {
            **common,
            **own[worker],
            "worker": worker,
            "checkpoints": str(machine.folder / f"worker-{worker}"),
        }
        path = machine.folder / f"worker-{worker}.json"
        path.write_text(json.dumps(job))
        running.append(machine.start(cores[worker], "work", path))
    marks: list[list[list[float]]] = [ended(process) for process in running]
    spans = [
        [[b - a for a, b in zip(*pair, strict=True)] for pair in itertools.pairwise(each)] for each in marks
    ]
    return [wall for wall, _ in spans[0]], [min(busy for _, busy in each) for each in spans]


def main() -> None:
    """Measure alone, simulate, train."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < STAGES:
        raise SystemExit("needs two cores: a pipeline of two workers is measured")
    with tempfile.TemporaryDirectory() as name:
        machine = Machine(Path(name))
        machine.run(cores[0], "write", machine.folder, SAMPLES // MICROBATCHES)
        cut, seconds = balanced(machine, cores)
        if apart(seconds) > APART:
            raise SystemExit(
                f"the slices differ by {apart(seconds):.0%}; at most {APART:.0%} is measured with"
            )
        steps, busy = trained(machine, cores, cut)
    report(
        "slice_train",
        ours=min(steps) * 1e3,
        reference=simulated(seconds) * 1e3,
        unit="ms of a step",
        speedup=True,
        microbatches=MICROBATCHES,
        stage_seconds=[[round(value, 5) for value in each] for each in seconds],
        stages_apart=round(apart(seconds), 4),
        median_step_ms=round(statistics.median(steps) * 1e3, 2),
        computed_seconds=[round(value, 5) for value in busy],
        cut=cut,
        reference_is="1F1B simulated from the slices' quickest passes alone, without time for transfers",
    )


if __name__ == "__main__":
    main()
