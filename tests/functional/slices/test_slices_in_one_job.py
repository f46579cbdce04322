"""A job in slices as a rig runs it: its script writes the network, processes train it, the whole is put together."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pytest

from tests.functional.slices.test_sliced_training import (
    STEPS,
    assert_exported_unsliced,
    environment,
    model,
    path,
    python,
)

__all__ = ["model", "path", "python"]
pytestmark = pytest.mark.slow
WRITES = """
import os, shutil, sys
target = os.environ["ISTHMUS_SLICES"]
shutil.copytree(sys.argv[1], os.path.join(target, "whole"))
shutil.copytree(os.path.join(sys.argv[1], "served"), os.path.join(target, "served"))
for name in sys.argv[2:]:
    shutil.copy(os.path.join(sys.argv[1], name), target)
"""
ARRAYS = ("data.npy", "label.npy")


@dataclass
class Rig:
    """The folders and variables of one attempt."""

    python: Path
    path: str
    model: Path
    folder: Path
    running: subprocess.Popen[str] | None = None

    def start(self, script: str = WRITES, arrays: tuple[str, ...] = ARRAYS, **changes: Any) -> IO[str]:
        """Start a job of the network that has all of it; return what it prints."""
        slices = {
            "cuts": json.loads((self.model / "cuts.json").read_text())["2"],
            "samples": 12,
            "microbatches": 3,
            "steps": STEPS,
            "every": 1,
            "options": {"learning_rate": 0.05, "momentum": 0.9, "wd": 1e-3},
            "seed": 5,
            **changes,
        }
        own = {
            "HOME": "home",
            "SM_CHECKPOINT_DIR": "checkpoints",
            "SM_MODEL_DIR": "model",
            "SM_OUTPUT_DIR": "output",
        }
        for name in own.values():
            (self.folder / name).mkdir(exist_ok=True)
        (self.folder / "train.py").write_text(script)
        command = [str(self.python), "-P", "-m", "isthmus.bootstrap_together", "--framework", "mxnet"]
        words = ["--slices", json.dumps(slices), "--", "train.py", str(self.model), *arrays]
        self.running = subprocess.Popen(
            [*command, *words],
            env=environment(self.path) | {name: str(self.folder / at) for name, at in own.items()},
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        assert self.running.stdout is not None
        return self.running.stdout

    def end(self) -> tuple[int, str]:
        """Wait for its end; return the exit code and what was printed since."""
        assert self.running is not None
        said, _ = self.running.communicate(timeout=60)
        return self.running.returncode, said

    def failure(self) -> str:
        return (self.folder / "output/failure").read_text()


@pytest.fixture
def rig(python: Path, path: str, model: Path, tmp_path: Path) -> Iterator[Rig]:
    found = Rig(python, path, model, tmp_path)
    yield found
    if found.running is not None and found.running.poll() is None:
        found.running.terminate()
        found.running.communicate()


def test_a_job_comes_to_the_unsliced_weights_though_a_worker_is_killed(rig: Rig) -> None:
    said, processes = rig.start(), {}
    for line in said:
        if named := re.match(r"worker (\d) is process (\d+)", line):
            processes[int(named[1])] = int(named[2])
        if line.startswith("worker 0: 3 of"):
            break
    os.kill(processes[1], signal.SIGKILL)
    code, rest = rig.end()
    assert code == 0, rest
    assert "worker 1 ended with -9, and is started again" in rest
    assert re.search(rf"^steps={STEPS} loss=[0-9.]+$", rest, re.MULTILINE)
    assert_exported_unsliced(rig.python, rig.path, rig.folder / "model", rig.model)


def test_a_job_may_send_gradients_in_eight_bits(rig: Rig) -> None:
    rig.start(gradients="int8")
    code, rest = rig.end()
    assert code == 0, rest
    for worker in range(2):
        assert (
            json.loads((rig.folder / f"home/slices/worker-{worker}.json").read_text())["gradients"] == "int8"
        )
    assert list((rig.folder / "model").iterdir())


def test_one_that_cannot_go_on_ends_all_with_its_reason(rig: Rig) -> None:
    rig.start(optimizer="magic")
    code, _ = rig.end()
    assert code == 1
    assert re.search(
        r"TrainingFailed: worker \d ended with 2, and the others were stopped: InvalidJob: .*magic",
        rig.failure(),
    )


def test_a_job_that_is_stopped_leaves_no_worker(rig: Rig) -> None:
    said, processes = rig.start(steps=100_000, every=100_000), []
    for line in said:
        processes += [int(found[1]) for found in re.finditer(r"is process (\d+)", line)]
        if line.startswith("worker 0: 0 of"):
            break
    assert rig.running is not None
    os.killpg(rig.running.pid, signal.SIGTERM)  # as the warden does
    assert rig.end()[0] == 128 + signal.SIGTERM
    assert not list((rig.folder / "model").iterdir()), "no half-trained model"
    assert [process for process in processes if Path(f"/proc/{process}").exists()] == []


@pytest.mark.parametrize(
    ("script", "arrays", "reason"),
    [
        ("", (), "InvalidInput: the script must write whole, served and an array NAME.npy for each input"),
        (WRITES, ("data.npy",), "InvalidInput: a slice of this worker reads label"),
    ],
    ids=["nothing", "no labels"],
)
def test_a_script_that_does_not_write_what_it_should_is_told(
    rig: Rig, script: str, arrays: tuple[str, ...], reason: str
) -> None:
    rig.start(script, arrays)
    assert rig.end()[0] == 1
    assert reason in rig.failure()


def test_a_script_that_fails_is_the_jobs_failure(rig: Rig) -> None:
    rig.start("raise SystemExit(7)")
    assert rig.end()[0] == 7
    assert "exit code 7" in rig.failure()
