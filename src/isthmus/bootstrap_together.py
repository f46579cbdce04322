"""The composition root of a job's training in slices on one machine: the job's script writes the network and its
samples, each worker's slices are trained by a process, and the whole is put together again.

``python -P -m isthmus.bootstrap_together --framework NAME --slices JSON -- SCRIPT [ARGUMENT ...]``, in the
framework's environment and under the SageMaker training contract (``rig.contract``).
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isthmus.errors import AttemptLost, EnvironmentProblem, InvalidInput, IsthmusError, TrainingFailed
from isthmus.frameworks.sliced import PACKAGES

if TYPE_CHECKING:
    from isthmus.model.slices import Slices

FOLDER_VARIABLE = "ISTHMUS_SLICES"
"""Names the folder that the job's script fills: ``whole`` has the network with its loss, ``served`` the one without, as
the framework saves them, and NAME.npy the samples of each of its inputs."""
WHOLE, SERVED = "whole", "served"
MOST_STARTS = 10
"""Of one worker."""
LOOK_SECONDS = 0.1
LOST_CODE = 75
"""As ``bootstrap_training`` has it."""
STOPPED_CODE = 128 + signal.SIGTERM


@dataclass
class Crew:
    """The workers' processes. ``jobs``: each one's file."""

    jobs: Sequence[Path]
    running: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)
    starts: dict[int, int] = field(default_factory=dict)
    said: dict[int, str] = field(default_factory=dict)
    stopping: bool = False
    ended_well: set[int] = field(default_factory=set)

    @property
    def unfinished(self) -> bool:
        """Whether a worker has not come to its end."""
        return len(self.ended_well) < len(self.jobs)

    def run(self) -> None:
        """Return when every worker has ended well. Who is killed, or was left alone, is started again.

        Raises:
            TrainingFailed: one ended otherwise; all others are stopped.
            AttemptLost: one was started too often.
        """
        try:
            for worker in range(len(self.jobs)):
                self._start(worker)
            while self.running and not self.stopping:
                time.sleep(LOOK_SECONDS)
                for worker, process in list(self.running.items()):
                    if (code := process.poll()) is not None:
                        self._ended(worker, code)
        finally:
            self.stop()

    def stop(self) -> None:
        """End all that still run."""
        self.stopping = True
        for process in self.running.values():
            process.kill()
        for process in self.running.values():
            process.wait()

    def _start(self, worker: int) -> None:
        self.starts[worker] = self.starts.get(worker, 0) + 1
        command = [sys.executable, "-P", "-m", "isthmus.bootstrap_training", "train", str(self.jobs[worker])]
        process = subprocess.Popen(command, stderr=subprocess.PIPE)
        self.running[worker] = process
        say(f"worker {worker} is process {process.pid}")
        threading.Thread(target=self._hear, args=(worker, process), daemon=True).start()

    def _hear(self, worker: int, process: subprocess.Popen[bytes]) -> None:
        for raw in process.stderr or ():
            line = raw.decode("utf-8", "replace").rstrip()
            self.said[worker] = line or self.said.get(worker, "")
            say(line if line.startswith("worker ") else f"worker {worker}: {line}")

    def _ended(self, worker: int, code: int) -> None:
        del self.running[worker]
        if code == 0:
            self.ended_well.add(worker)
        if self.stopping or code == 0:
            return
        if code != LOST_CODE and code > 0:
            raise TrainingFailed(
                f"worker {worker} ended with {code}, and the others were stopped: {self.said.get(worker, '')}"
            )
        if self.starts[worker] >= MOST_STARTS:
            raise AttemptLost(
                f"worker {worker} was started {MOST_STARTS} times, and ended each time with {code}: "
                f"{self.said.get(worker, '')}"
            )
        say(f"worker {worker} ended with {code}, and is started again")
        self._start(worker)


def say(line: str) -> None:
    """Print a line, whole and at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def train_together(framework: str, slices: Slices, script: Sequence[str], environ: Mapping[str, str]) -> int:
    """Do all of it; return the exit code.

    Raises:
        IsthmusError: as the parts say.
    """
    folder = Path(environ["HOME"]) / "slices"
    folder.mkdir(parents=True, exist_ok=True)
    if code := _write_network(framework, script, folder, environ):
        return code
    kept = [Path(environ["SM_CHECKPOINT_DIR"]) / f"worker-{worker}" for worker in range(slices.workers)]
    crew = Crew(_jobs(framework, slices, folder, kept))

    def stop(number: int, frame: object) -> None:
        crew.stopping = True

    signal.signal(signal.SIGTERM, stop)
    crew.run()
    # The warden's signal reaches the workers too: that none runs any more does not say that they came to their end.
    if crew.stopping and crew.unfinished:
        return STOPPED_CODE
    _put_together(framework, folder / SERVED, Path(environ["SM_MODEL_DIR"]), kept)
    return 0


def _check_packages() -> None:
    if missing := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
        raise EnvironmentProblem(
            f"slices need {' and '.join(missing)} in the framework's environment; list them in the requirements.txt of "
            "the job's code"
        )


def _write_network(framework: str, script: Sequence[str], folder: Path, environ: Mapping[str, str]) -> int:
    """Run the job's script; return its exit code."""
    import isthmus
    from isthmus.frameworks import launch

    source = str(Path(isthmus.__file__).parents[1])
    command = launch.command(sys.executable, source, framework, script)
    return subprocess.run(command, env={**environ, FOLDER_VARIABLE: str(folder)}, check=False).returncode


def _jobs(framework: str, slices: Slices, folder: Path, kept: Sequence[Path]) -> list[Path]:
    """Write each worker's file.

    Raises:
        InvalidInput: the script has not written what it should.
    """
    import msgspec

    missing = [name for name in (WHOLE, SERVED) if not (folder / name).exists()]
    inputs = {path.stem: path for path in sorted(folder.glob("*.npy"))}
    if missing or not inputs:
        raise InvalidInput(
            f"the script must write {WHOLE}, {SERVED} and an array NAME.npy for each input of the network to "
            f"${FOLDER_VARIABLE}; it lacks {', '.join(missing) or 'any array'}"
        )
    ports = _free_ports(len(kept))
    common: dict[str, Any] = {
        "schema": "isthmus/sliced-training/1",
        "framework": framework,
        "model": str(folder / WHOLE),
        "rows": _rows(inputs),
        "inputs": {name: str(path) for name, path in inputs.items()},
        **msgspec.to_builtins(slices),
    }
    found = []
    for worker, checkpoints in enumerate(kept):
        own = {
            "worker": worker,
            "checkpoints": str(checkpoints),
            "listen": f"127.0.0.1:{ports[worker]}",
            "peers": {str(other): f"127.0.0.1:{ports[other]}" for other in range(worker)},
        }
        found.append(folder / f"worker-{worker}.json")
        found[-1].write_bytes(msgspec.json.encode(common | own))
    return found


def _rows(inputs: Mapping[str, Path]) -> int:
    """Return how many samples there are.

    Raises:
        InvalidInput: arrays have different numbers, or cannot be read.
    """
    import numpy as np

    found: dict[str, int] = {}
    for name, path in inputs.items():
        try:
            found[name] = int(np.load(path, mmap_mode="r", allow_pickle=False).shape[0])
        except (OSError, ValueError, IndexError) as error:
            raise InvalidInput(f"{path.name} must hold an array of samples: {error}") from error
    if len(set(found.values())) > 1:
        raise InvalidInput(f"the arrays must have as many rows each, one for a sample; they have {found}")
    return next(iter(found.values()))


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _put_together(framework: str, served: Path, model: Path, kept: Sequence[Path]) -> None:
    from isthmus.bootstrap_training import put_together
    from isthmus.workflows.slices_together import last_losses

    step = put_together(framework, kept, served, model)
    losses = "".join(f" loss={value:.6g}" for value in last_losses(kept).values())
    say(f"steps={step}{losses}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="isthmus.bootstrap_together", description=__doc__)
    parser.add_argument("--framework", required=True)
    parser.add_argument("--slices", required=True, help="JSON, as model.slices.Slices")
    parser.add_argument("script", nargs="+")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit code, and leave the reason of a failure in the failure file."""
    from isthmus.frameworks.launch import failure_file

    given = _parser().parse_args(arguments)
    try:
        _check_packages()
        from isthmus import documents
        from isthmus.model.slices import Slices

        slices = documents.decode(Slices, given.slices.encode(), "slices")
        return train_together(given.framework, slices, given.script, os.environ)
    except IsthmusError as error:
        return _fail(f"{type(error).__name__}: {error}", failure_file())


def _fail(text: str, failure: str | None) -> int:
    say(text)
    if failure is not None:
        Path(failure).write_text(text + "\n", encoding="utf-8")
    return 1


if __name__ == "__main__":
    sys.exit(main())
