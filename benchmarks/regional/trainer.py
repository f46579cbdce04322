"""A runner whose trainings are real processes under the real warden, and small."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from isthmus.model.job import Training
from isthmus.ports import Flag, TrainingRun
from isthmus.rig import warden
from isthmus.rig.child import Child, Record
from isthmus.rig.contract import Layout
from isthmus.rig.joblog import JobLog
from isthmus.rig.runner import TrainingRequest

SCRIPT = """
import os, sys, time
model, checkpoint, started, done, seconds = sys.argv[1:]
open(started + '-' + str(os.getpid()), 'w').close()
epoch = int(open(checkpoint).read()) if os.path.exists(checkpoint) else 0
while epoch < 4:
    time.sleep(float(seconds))
    epoch += 1
    with open(checkpoint + '.new', 'w') as file:
        file.write(str(epoch))
    os.replace(checkpoint + '.new', checkpoint)
with open(model, 'w') as file:
    file.write(done)
open(done, 'w').close()
"""


class Trainer:
    """``rig.attempt.Runner``. ``seen``: where scripts note that they began, and that they ended. Each training has
    four epochs, of ``epoch_seconds``."""

    def __init__(self, seen: Path, epoch_seconds: float) -> None:
        self._seen, self._epoch_seconds = seen, epoch_seconds

    def check(self, training: Training) -> None:
        return

    def warm(self) -> None:
        """It has nothing to prepare."""

    def close(self) -> None:
        """It holds nothing."""

    def end(self, run_id: str) -> int:
        return warden.kill_run(run_id)

    def run(self, request: TrainingRequest, stop: Flag) -> TrainingRun:
        folders, began = Layout(request.work), time.monotonic()
        job_key, fencing, _ = request.run_id.rsplit("-", 2)
        seen = str(self._seen / f"{job_key}-{fencing}")
        command = [sys.executable, "-I", "-S", "-c", SCRIPT, str(folders.model / "model.onnx")]
        command += [str(folders.checkpoints / "epoch"), seen, seen, str(self._epoch_seconds)]
        with JobLog(folders.log, head_bytes=1 << 20, tail_bytes=1 << 20) as log:
            record = Record(log)
            code = Child(request.run_id, folders.root, {}, record, stop, 1.0).run(command, 60.0)
        seconds = time.monotonic() - began
        return TrainingRun(code, "\n".join(record.tail), {}, folders.output, seconds, stopped=stop.is_set())
