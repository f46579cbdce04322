"""Runs a case: as the rig's agent does, under the public sagemaker-training toolkit, and as our jobs in containers."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import threading
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnx import TensorProto, helper

from benchmarks.conformance.cases import ASKS, Case
from isthmus.frameworks.contained import ENTRYPOINT
from isthmus.model.blob import BlobRef
from isthmus.model.job import Framework, Training
from isthmus.rig.environments import source_folder
from isthmus.rig.runner import JobRunner, TrainingRequest
from isthmus.workflows import source_archive

TOOLKIT = Path(__file__).parents[2] / "checks/toolkit/.venv/bin"
DATA = {"train/a.csv": "1,2\n3,4\n", "test/deep/b.csv": "5,6\n"}
HOST = "algo-1"
STOP_SECONDS = 20.0
SAID_LAST = 300


@dataclass(frozen=True)
class Seen:
    """``told``: what the script wrote down, or None. ``ended``: succeeded, failed or stopped. ``model``: whether one is
    there. ``reason``: what of the script's own words stands in the failure file."""

    told: Any
    ended: str
    model: bool
    reason: str


def model() -> bytes:
    """A model of one operator."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 2]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "tiny", [x], [y])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return bytes(made.SerializeToString())


def code(case: Case) -> dict[str, bytes]:
    """The files of a job's code archive."""
    return {
        "train.py": (ASKS + case.script + "\n").encode(),
        "help.py": b"SAID = 'helped'\n",
        "model.onnx": model(),
    }


def _how(code: int, *, stopped: bool) -> str:
    """The toolkit ends with 1 whatever code its script had; a rig tells that code. Both are a failure."""
    if stopped:
        return "stopped"
    return "failed" if code else "succeeded"


def _seen(root: Path, ended: str) -> Seen:
    told, failure = root / "output/data/told.json", root / "output/failure"
    reason = failure.read_text() if failure.is_file() else ""
    words = [word for word in ("the third row has no label", "my own reason", "no labels") if word in reason]
    return Seen(
        json.loads(told.read_text()) if told.is_file() else None,
        ended,
        (root / "model/model.onnx").is_file(),
        words[0] if words else "",
    )


# ---------------------------------------------------------------------- the rig


def on_rig(case: Case, folder: Path) -> Seen:
    """Run it as the agent runs a training."""
    archive = folder / "code.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for name, data in code(case).items():
            packed.writestr(name, data)
    work, data = folder / "work", folder / "data"
    _write({f"data/{name}": text for name, text in DATA.items()}, folder)
    _write({f"work/checkpoints/{name}": text for name, text in case.checkpoints.items()}, folder)
    raw = archive.read_bytes()
    training = Training(
        framework=Framework(name="mxnet", version="1.9.1"),
        entry_point="train.py",
        code=BlobRef(key="code.zip", sha256=hashlib.sha256(raw).hexdigest(), size_bytes=len(raw)),
        hyperparameters=dict(case.hyperparameters),
    )
    stop = threading.Event()
    request = TrainingRequest(
        name="conformance",
        run_id=f"conformance-{os.getpid()}-{folder.parent.name}",
        training=training,
        code=archive,
        channels={name: data / name for name in ("train", "test")},
        work=work,
        on_line=lambda line: stop.set() if case.stops and line.strip() == "ready" else None,
    )
    runner = JobRunner(
        interpreter=lambda *_: TOOLKIT / "python", source=source_folder(folder), grace_seconds=STOP_SECONDS
    )
    run = runner.run(request, stop)
    return _seen(work, _how(run.exit_code, stopped=run.stopped))


# ---------------------------------------------------------------------- SageMaker


def under_toolkit(case: Case, folder: Path) -> Seen:
    """Run the script itself, as an estimator's ``entry_point`` is run in a container with the toolkit."""
    for name, data in code(case).items():
        _write({f"code/{name}": data}, folder)
    submitted = {"sagemaker_program": "train.py", "sagemaker_submit_directory": str(folder / "code")}
    _lay_out(case, folder, submitted, {f"input/data/{name}": text for name, text in DATA.items()})
    return _run_toolkit(case, folder, "train")


def on_sagemaker(case: Case, folder: Path) -> Seen:
    """Run it as one of our jobs runs there: the toolkit runs our program, and that the script."""
    archive = folder / "code.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for name, data in code(case).items():
            packed.writestr(name, data)
    listed, files = [], {}
    for path, text in DATA.items():
        digest = hashlib.sha256(text.encode()).hexdigest()
        channel = path.partition("/")[0]
        listed.append({"channel": channel, "path": path, "object": f"blobs/{digest}", "sha256": digest})
        files[f"input/data/{channel}/blobs/{digest}"] = text
    told = {
        "framework": "mxnet",
        "entry_point": "train.py",
        "launcher": "",
        "parity_tolerance": 1e-4,
        "streams": False,
        "channels": listed,
    }
    place = folder / "input/data/isthmus_code"
    place.mkdir(parents=True)
    source_archive.make(archive, told, place / "sourcedir.tar.gz")
    submitted = {
        "sagemaker_program": source_archive.PROGRAM,
        "sagemaker_submit_directory": str(place / "sourcedir.tar.gz"),
    }
    _lay_out(case, folder, submitted, files, "isthmus_code")
    return _run_toolkit(case, folder, *ENTRYPOINT)


def _lay_out(
    case: Case, folder: Path, submitted: dict[str, str], files: dict[str, str], *channels: str
) -> None:
    """Write what SageMaker writes before it starts a container."""
    mode = {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated", "RecordWrapperType": "None"}
    group = {"instance_group_name": "homogeneousCluster", "instance_type": "ml.m5.large", "hosts": [HOST]}
    given = {**case.hyperparameters, **submitted}
    documents: dict[str, object] = {
        "hyperparameters": {name: json.dumps(value) for name, value in given.items()},
        "inputdataconfig": dict.fromkeys(("test", "train", *channels), mode),
        "resourceconfig": {
            "current_host": HOST,
            "current_instance_type": "ml.m5.large",
            "current_group_name": "homogeneousCluster",
            "hosts": [HOST],
            "instance_groups": [group],
            "network_interface_name": "lo",
        },
    }
    _write(
        {f"input/config/{name}.json": json.dumps(document) for name, document in documents.items()}, folder
    )
    _write(files, folder)
    _write({f"checkpoints/{name}": text for name, text in case.checkpoints.items()}, folder)
    for name in ("model", "output/data", "checkpoints"):
        (folder / name).mkdir(parents=True, exist_ok=True)


def _run_toolkit(case: Case, folder: Path, *entrypoint: str) -> Seen:
    """Start a container's program, where the host has the name that SageMaker gives it."""
    hosts = folder / "hosts"
    hosts.write_text(f"{Path('/etc/hosts').read_text()}\n127.0.0.1 {HOST}\n")
    within = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
    shell = 'mount --bind "$0" /etc/hosts && exec "$@"'
    command = [*within, "sh", "-c", shell, str(hosts), *entrypoint]
    env = {"PATH": f"{TOOLKIT}:{os.environ['PATH']}", "HOME": str(folder), "SAGEMAKER_BASE_DIR": str(folder)}
    with subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    ) as process:
        stopped = _follow(process, case)
        done = process.wait()
    return _seen(folder, _how(done, stopped=stopped))


def _follow(process: subprocess.Popen[bytes], case: Case) -> bool:
    """Read all that it prints; stop it as SageMaker does: SIGTERM to the container's process, later SIGKILL to all."""
    if process.stdout is None:
        raise ValueError("the process has no pipe for its output")
    stopped = False
    timer: threading.Timer | None = None
    for line in process.stdout:
        if case.stops and line.strip() == b"ready" and not stopped:
            stopped = True
            process.terminate()
            timer = threading.Timer(STOP_SECONDS, os.killpg, (process.pid, signal.SIGKILL))
            timer.start()
    if timer is not None:
        timer.cancel()
    return stopped


def _write(files: dict[str, Any], folder: Path) -> None:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())


RUNNERS: dict[str, Callable[[Case, Path], Seen]] = {
    "toolkit": under_toolkit,
    "rig": on_rig,
    "sagemaker": on_sagemaker,
}


def run(who: str, case: Case, folder: Path) -> tuple[Seen, float]:
    """Run a case in a folder of its own; return what was seen, and how many seconds it took."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    started = time.perf_counter()
    return RUNNERS[who](case, folder), time.perf_counter() - started
