"""A training in a container of SageMaker's: what a rig's agent does around a script, done inside.

It is the program that the sagemaker-training toolkit starts (``sagemaker_program``), in the folder to which it unpacked
``sagemaker_submit_directory``, with the hyperparameters as arguments and ``SM_*`` in the environment (README and
ENVIRONMENT_VARIABLES.md of aws/sagemaker-training-toolkit). The folder holds the job's code and, in ``.isthmus``, this
package and ``job.json``. Files of a channel come by the names that they have in the bucket, and get those of the
dataset here, each verified. The folder of checkpoints is SageMaker's to copy (``CheckpointConfig``); the toolkit has no
variable for it, a rig has.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from isthmus.frameworks.curves import CurveRecorder
from isthmus.frameworks.launch import command, failure_file, variables
from isthmus.frameworks.printed import keep_metrics, metrics_in

HOME = ".isthmus"
JOB_FILE = "job.json"
METRICS_FILE = "metrics.json"
CURVES_FILE = "curves.json"
PROGRAM = "isthmus_train.py"
START = f"""import os, sys

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, {HOME!r}))
from isthmus.frameworks.contained import main

sys.exit(main(here, sys.argv[1:]))
"""
"""What ``PROGRAM`` holds."""
_HAND_ON = f"""
session=$(cut -d" " -f6 </proc/$$/stat)
hand_on() {{
  for process in /proc/[0-9]*; do
    number=${{process#/proc/}}
    [ "$number" != $$ ] && [ "$(cut -d" " -f6 2>/dev/null <"$process/stat")" = "$session" ] || continue
    tr "\\0" " " 2>/dev/null <"$process/cmdline" | grep -q "{PROGRAM}" && kill -TERM "$number"
  done
}}
if command -v start_with_right_hostname.sh >/dev/null
then set -- bash -m start_with_right_hostname.sh train
else set -- train
fi
trap hand_on TERM
"$@" &
child=$!
wait "$child"
code=$?
while kill -0 "$child" 2>/dev/null; do
  wait "$child"
  code=$?
done
exit "$code"
"""
ENTRYPOINT = ("/bin/sh", "-c", _HAND_ON.strip())
"""What a container starts instead of the toolkit's ``train`` itself, which hears SIGTERM and hands it to nobody
(sagemaker-training 5.1.4 has no handler; as a container's first process it would not even end of it). The framework
images start ``train`` through ``start_with_right_hostname.sh``."""
PIECE_BYTES = 1 << 20


class WrongData(Exception):
    """A file of the dataset is not there, or has other bytes."""


def main(here: str, arguments: Sequence[str]) -> int:
    """Train and export; return the exit code, and leave the reason of a failure in SageMaker's failure file."""
    folder = Path(here)
    source = folder / HOME
    job = json.loads((source / JOB_FILE).read_text(encoding="utf-8"))
    ml = Path(os.environ.get("SM_MODEL_DIR", "/opt/ml/model")).parent
    data = ml / "input" / "data"
    channels = {file["channel"]: data / file["channel"] for file in job["channels"]}
    try:
        if not job["streams"]:
            _place(job["channels"], data)
    except WrongData as error:
        return _fail(str(error))
    run = _Run(_environment(job, ml, channels, source))
    code = run.script(job, folder, source, arguments)
    if code == 0 and not run.stopped:
        code = run.export(job, ml / "model")
    (ml / "model" / METRICS_FILE).write_text(json.dumps(run.metrics, sort_keys=True), encoding="utf-8")
    (ml / "model" / CURVES_FILE).write_text(json.dumps(run.curves.document()), encoding="utf-8")
    return code


def _fail(text: str) -> int:
    sys.stderr.write(text + "\n")
    if (failure := failure_file()) is not None:
        Path(failure).write_text(text + "\n", encoding="utf-8")
    return 1


def _place(files: Sequence[Mapping[str, str]], data: Path) -> None:
    """Give the files of every channel their names."""
    objects = {data / file["channel"] / file["object"] for file in files}
    targets = set()
    for file in files:
        there = data / file["channel"] / file["object"]
        target = data / file["path"]
        if not there.is_file():
            raise WrongData(f"{file['path']} did not come: there is no {there}")
        if (found := _sha256(there)) != file["sha256"]:
            raise WrongData(f"{file['path']} has the SHA-256 {found}; the dataset's is {file['sha256']}")
        target.parent.mkdir(parents=True, exist_ok=True)
        if target != there:
            target.unlink(missing_ok=True)
            os.link(there, target)  # one object may be several files
        targets.add(target)
    for path in objects - targets:
        path.unlink()
        _remove_empty(path.parent, data)


def _remove_empty(folder: Path, root: Path) -> None:
    while folder != root and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def _environment(
    job: Mapping[str, Any], ml: Path, channels: Mapping[str, Path], source: Path
) -> dict[str, str]:
    """What the toolkit set, and what a rig's agent sets besides."""
    launcher = [job["launcher"]] if job["launcher"] else []
    mine = {
        "ORT_DISABLE_TELEMETRY": "1",
        "PYTHONUNBUFFERED": "1",
        "SM_CHECKPOINT_DIR": os.environ.get("SM_CHECKPOINT_DIR", str(ml / "checkpoints")),
        "SM_USER_ENTRY_POINT": job["entry_point"],
        "SM_MODULE_NAME": Path(job["entry_point"]).stem,
        "SM_CHANNELS": json.dumps(sorted(channels)),
    }
    named = {f"SM_CHANNEL_{name.upper()}": str(folder) for name, folder in channels.items()}
    return {
        **os.environ,
        **mine,
        **named,
        **variables(job["framework"], *launcher),
        "PYTHONPATH": str(source),
    }


class _Run:
    """The script, then the export: lines are passed on, metrics kept, SIGTERM handed down."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None
        self.metrics: dict[str, float] = {}
        self.curves = CurveRecorder()
        self._started = time.monotonic()
        self.stopped = False
        signal.signal(signal.SIGTERM, self._stop)

    def _stop(self, number: int, frame: object) -> None:
        self.stopped = True
        if self._process is not None:
            self._process.terminate()

    def script(self, job: Mapping[str, Any], folder: Path, source: Path, arguments: Sequence[str]) -> int:
        processes = int(self._environment.get("SM_NUM_GPUS", "0")) or 1
        words = [job["entry_point"], *arguments]
        launcher = {"launcher": job["launcher"], "processes": processes} if job["launcher"] else {}
        return self._follow(command(sys.executable, str(source), job["framework"], words, **launcher), folder)

    def export(self, job: Mapping[str, Any], model: Path) -> int:
        options = ["--model-dir", str(model), "--tolerance", str(job["parity_tolerance"])]
        module = ["-P", "-m", "isthmus.frameworks.export", "--framework", job["framework"]]
        return self._follow([sys.executable, *module, *options], model)

    def _follow(self, words: Sequence[str], folder: Path) -> int:
        with subprocess.Popen(
            words, cwd=folder, env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process:
            self._process = process
            if process.stdout is None:
                raise ValueError("the process has no pipe for its output")
            for raw in process.stdout:
                sys.stdout.buffer.write(raw)
                sys.stdout.buffer.flush()
                self._keep(raw.decode("utf-8", "replace").rstrip("\r\n"))
        code = process.returncode
        return code if code >= 0 else 128 - code

    def _keep(self, line: str) -> None:
        keep_metrics(line, self.metrics)
        for name, value in metrics_in(line).items():
            if name in self.metrics:
                self.curves.add(name, time.monotonic() - self._started, value)
