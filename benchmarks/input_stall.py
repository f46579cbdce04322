"""input_stall: the share of its time that a training waits for its input while it streams it over a link.

The training is a process of its own, started by the rig's runner as every training is. It reads the pipe of its channel
(`input_mode: Pipe`) and calculates for 20 ms for each file of 1 MiB, so it takes 50 MiB/s; 1,000 files come over a link
with 30 ms of latency while it does. Whatever passes between asking for a batch and having it counts as waiting: for
the pipe, for the network, and the copy out of the pipe. The reference is the same training in File mode: it waits
until all files are there, and then for nothing. `first_batch_seconds`: from when the agent began to fetch until the
script, start of Python and numpy included, had its first batch.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from pathlib import Path

from benchmarks.paced_s3 import BUCKET, Paced, make_files, paced_bucket, roomy_folder, variables_for
from benchmarks.report import report

FILES = 1000
FILE_BYTES = 2**30 // FILES
ROUND_TRIP_SECONDS = 0.03
ROUNDS = 3
STALL_GOAL = 0.05
STEP_SECONDS = 0.02
TRAIN = f"""
import json, os, time
import numpy as np
import onnx
from onnx import TensorProto, helper

weights = np.random.default_rng(0).random((256, 256), dtype=np.float32)
products = json.loads(os.environ["SM_HPS"])["products"]
waited, steps, first, began = 0.0, 0, 0.0, time.perf_counter()
asked = began
with open(os.environ["SM_CHANNEL_TRAINING"] + "_0", "rb") as pipe:
    while data := pipe.read({FILE_BYTES}):
        now = time.perf_counter()
        waited += now - asked
        first = first or time.time()
        steps += 1
        batch = np.frombuffer(data, dtype=np.uint8)[: 256 * 256].reshape(256, 256).astype(np.float32)
        for _ in range(products):
            batch = np.tanh(batch @ weights)
        asked = time.perf_counter()
    waited += time.perf_counter() - asked
took = time.perf_counter() - began
print(f"stall={{waited / took}} steps={{steps}} step_seconds={{(took - waited) / steps}} first_at={{first}}")
x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2])
y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])
graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "tiny", [x], [y])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
onnx.save(model, os.path.join(os.environ["SM_MODEL_DIR"], "model.onnx"))
"""


@dataclasses.dataclass(frozen=True)
class Streamed:
    """What one training told."""

    stall: float
    step_seconds: float
    first_batch_seconds: float


def main() -> None:
    """Measure and report; or, with arguments, be the agent's process."""
    if sys.argv[1:]:
        print(json.dumps(dataclasses.asdict(_agent(*map(Path, sys.argv[1:])))))
        return
    with tempfile.TemporaryDirectory(
        prefix="isthmus-bench-", dir=roomy_folder(4 * FILES * FILE_BYTES)
    ) as scratch:
        folder = Path(scratch)
        manifest = folder / "manifest.json"
        make_files(folder / "bucket", manifest, files=FILES, file_bytes=FILE_BYTES)
        with paced_bucket(folder / "bucket", round_trip_seconds=ROUND_TRIP_SECONDS) as bucket:
            _measure(bucket, folder, manifest)


def _measure(bucket: Paced, folder: Path, manifest: Path) -> None:
    ours: list[Streamed] = []
    file_seconds: list[float] = []
    for number in range(ROUNDS):
        with tempfile.TemporaryDirectory(dir=folder) as rig:
            ours.append(streamed(bucket, manifest, Path(rig)))
        with tempfile.TemporaryDirectory(dir=folder) as rig:
            file_seconds.append(_all_there(bucket, manifest, rig))
        print(f"round {number + 1}: {ours[-1]}  File mode {file_seconds[-1]:.2f} s", file=sys.stderr)
    step = statistics.median(one.step_seconds for one in ours)
    before = statistics.median(file_seconds)
    report(
        "input_stall",
        ours=statistics.median(one.stall for one in ours),
        reference=before / (before + FILES * step),
        unit="share of its time",
        stalls=[round(one.stall, 4) for one in ours],
        step_seconds=round(step, 4),
        file_bytes=FILE_BYTES,
        files=FILES,
        first_batch_seconds=round(statistics.median(one.first_batch_seconds for one in ours), 2),
        file_mode_seconds=round(before, 2),
        rounds=ROUNDS,
        reference_is="the same training in File mode: all files are fetched before its first step",
    )


def streamed(bucket: Paced, manifest: Path, rig: Path) -> Streamed:
    """Train once with an empty cache, in an agent's process of its own."""
    command = [sys.executable, "-m", "benchmarks.input_stall", str(manifest), str(rig)]
    done = subprocess.run(command, env=variables_for(bucket), check=True, stdout=subprocess.PIPE, text=True)
    return Streamed(**json.loads(done.stdout.splitlines()[-1]))


def _all_there(bucket: Paced, manifest: Path, rig: str) -> float:
    command = [sys.executable, "-m", "benchmarks.dataset_download", str(manifest), rig, "first"]
    started = time.perf_counter()
    subprocess.run(command, env=variables_for(bucket), check=True)
    return time.perf_counter() - started


def _products_of_a_step() -> int:
    """Return how many products of matrices take about a step's time here, while nothing else is done."""
    import numpy as np

    weights = np.random.default_rng(0).random((256, 256), dtype=np.float32)
    batch, products, started = weights, 0, time.perf_counter()
    while time.perf_counter() - started < 20 * STEP_SECONDS:
        batch = np.tanh(batch @ weights)
        products += 1
    return max(1, products // 20)


def _agent(manifest: Path, rig: Path) -> Streamed:
    """Do with a training what an attempt does with it between its lease and its outcome."""
    from isthmus.adapters.aws.blobs import S3BlobStore
    from isthmus.adapters.aws.bulk import BulkReader
    from isthmus.adapters.system import SystemThreads
    from isthmus.model.blob import BlobRef
    from isthmus.model.dataset import DatasetFile, Manifest
    from isthmus.model.job import Framework, Training
    from isthmus.rig.cache import FileCache
    from isthmus.rig.contract import Layout
    from isthmus.rig.environments import source_folder
    from isthmus.rig.inputs import Inputs
    from isthmus.rig.runner import JobRunner, TrainingRequest
    from isthmus.sync.download import CONNECTIONS

    code = rig / "code.zip"
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("train.py", TRAIN)
    data = code.read_bytes()
    reference = BlobRef(key="code.zip", sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))
    training = Training(
        framework=Framework(name="mxnet", version="1.9.1"),
        entry_point="train.py",
        code=reference,
        hyperparameters={"products": _products_of_a_step()},
        input_mode="Pipe",
    )
    digests = json.loads(manifest.read_text())
    files = tuple(
        DatasetFile(path=f"{number:04}", sha256=digest, size_bytes=FILE_BYTES, key=digest)
        for number, digest in enumerate(digests)
    )
    cache = FileCache(rig / "cache", S3BlobStore(BUCKET, BulkReader.if_possible(BUCKET, CONNECTIONS)))
    folders = Layout(rig / "attempt")
    folders.make()
    inputs = Inputs(training, Manifest(dataset="data", files=files, job=reference), folders, cache, None)
    inputs.prepare(lambda call: call(), lambda: None)
    runner = JobRunner(
        interpreter=lambda framework, version, stop: Path(sys.executable), source=source_folder(rig)
    )
    request = TrainingRequest("stall", f"stall-{rig.name}", training, code, inputs.channels, folders.root)
    stop, began = threading.Event(), time.time()
    with inputs.feeding(SystemThreads(), lambda event, **fields: None, stop.set):
        run = runner.run(request, stop)
    if run.exit_code != 0 or run.metrics["steps"] != FILES:
        raise SystemExit(f"the training ended with {run.exit_code}: {run.tail}")
    return Streamed(run.metrics["stall"], run.metrics["step_seconds"], run.metrics["first_at"] - began)


if __name__ == "__main__":
    main()
