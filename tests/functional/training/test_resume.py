"""A training that is killed goes on where its checkpoint is, and ends with the weights of one that was not."""

from __future__ import annotations

import hashlib
import shutil
import threading
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from isthmus import documents
from isthmus.adapters.local.blobs import DirectoryBlobStore
from isthmus.adapters.local.records import MemoryRecords
from isthmus.adapters.system import SystemThreads
from isthmus.model import layout
from isthmus.model.blob import BlobRef
from isthmus.model.checkpoint import Checkpoint
from isthmus.model.job import Framework, Training
from isthmus.ports import TrainingRun
from isthmus.rig.checkpoints import Checkpoints
from isthmus.rig.environments import Environments, source_folder
from isthmus.rig.mirror import Mirror
from isthmus.rig.runner import JobRunner, TrainingRequest
from isthmus.rig.warden import kill_run
from tests.functional.training.test_training_mxnet import CACHE, EXAMPLES, digits, environments

__all__ = ["digits", "environments"]

pytestmark = pytest.mark.slow
EPOCHS = 6
KILLED_IN = 3
STANDS_STILL = """
import builtins, time

said = builtins.print


def stand_still(*words, **options):
    said(*words, flush=True)
    if str(words[0]).startswith("epoch={last} "):
        time.sleep(600)


builtins.print = stand_still
"""
"""Before a script: it stays in the epoch that comes after ``last``, to be killed in it, however busy the machine."""


class Rig:
    """One rig with a folder of its own; every rig shares the bucket and the table."""

    def __init__(self, name: str, shared: Path, records: MemoryRecords, environments: Environments) -> None:
        self._folder = shared / name
        self._blobs = DirectoryBlobStore(shared / "bucket")
        self._records = records
        self._environments = environments
        self.epochs: list[int] = []
        self._mirrored = threading.Condition()
        self._paths: set[str] = set()

    def train(self, fencing: int, data: Path, *, killed_in: int = 0) -> TrainingRun:
        """Train an attempt, with its checkpoints restored and mirrored as an agent does it."""
        checkpoints = Checkpoints(
            self._folder / "checkpoints", "job", fencing, self._blobs, self._records, self._report
        )
        checkpoints.restore()
        run_id = uuid.uuid4().hex

        def on_line(line: str) -> None:
            if not line.startswith("epoch="):
                return
            self.epochs.append(int(line.split()[0].removeprefix("epoch=")))
            if self.epochs[-1] == killed_in - 1:
                self._wait_for(f"epoch-{self.epochs[-1]}/trainer.states")
                kill_run(run_id)

        work = self._folder / f"attempt-{fencing}"
        work.mkdir(parents=True)
        (work / "checkpoints").symlink_to(checkpoints.folder.absolute(), target_is_directory=True)
        mirror = Mirror(checkpoints, SystemThreads(), self._report, every_seconds=0.1, still_seconds=0.05)
        runner = JobRunner(
            interpreter=self._environments.ensure, source=source_folder(CACHE), on_line=on_line
        )
        with mirror:
            return runner.run(request(work, run_id, data, killed_in), threading.Event())

    def _report(self, event: str, **fields: Any) -> None:
        if event == "checkpoint committed":
            raw = self._blobs.get(layout.checkpoint_manifest("job", fields["manifest"]), max_bytes=10_000)
            with self._mirrored:
                self._paths = {file.path for file in documents.decode(Checkpoint, raw, "it").files}
                self._mirrored.notify_all()

    def _wait_for(self, path: str) -> None:
        """The training is in its next epoch meanwhile: checkpoints reach the bucket while it runs."""
        with self._mirrored:
            assert self._mirrored.wait_for(lambda: path in self._paths, 60)


def request(work: Path, run_id: str, data: Path, killed_in: int) -> TrainingRequest:
    source = Path(shutil.copytree(EXAMPLES / "digits", work / "source"))
    if killed_in:
        script = source / "train.py"
        script.write_text(STANDS_STILL.format(last=killed_in - 1) + script.read_text())
    code = Path(shutil.make_archive(str(work / "code-archive"), "zip", source))
    digest = hashlib.sha256(code.read_bytes()).hexdigest()
    training = Training(
        framework=Framework(name="mxnet", version="1.9.1"),
        entry_point="train.py",
        code=BlobRef(key="code.zip", sha256=digest, size_bytes=code.stat().st_size),
        hyperparameters={"epochs": EPOCHS},
    )
    channels = {"train": data / "train", "test": data / "test"}
    return TrainingRequest("resume", run_id, training, code, channels, work)


def weights(run: TrainingRun) -> dict[str, Any]:
    assert run.exit_code == 0, run.tail
    model = onnx.load(str(run.output / "model" / "model.onnx"))
    return {entry.name: onnx.numpy_helper.to_array(entry) for entry in model.graph.initializer}


def test_killed_in_epoch_3_of_6_another_rig_starts_at_epoch_3_and_ends_with_the_same_weights(
    environments: Environments, digits: Path, tmp_path: Path
) -> None:
    whole = Rig("whole", tmp_path / "undisturbed", MemoryRecords(), environments)
    expected = weights(whole.train(1, digits))
    records = MemoryRecords()
    first = Rig("first", tmp_path / "shared", records, environments)
    killed = first.train(1, digits, killed_in=KILLED_IN)
    assert killed.exit_code == 137
    assert first.epochs == list(range(1, KILLED_IN))
    second = Rig("second", tmp_path / "shared", records, environments)
    found = weights(second.train(2, digits))
    assert second.epochs == list(range(KILLED_IN, EPOCHS + 1))
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert np.array_equal(found[name], values), name
