"""cost_estimate: how far an estimate, frozen before a training starts, is from what it then cost.

Trainings run on this machine, as a rig runs them: the plan that `plan_training` makes and the estimate that it writes
down, an agent with the real runner and a process of its own for each training, and the seconds that the agent reports,
from which the ledger is settled. Three networks on the digits of scikit-learn, in numpy, each trained for another time.
The first training of a network, of which nobody knows how long it takes, is estimated by its deadline: it is printed,
and not among the ten that count. ``ours`` is the median of |estimate - cost| / cost over those, of the training alone.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import statistics
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from benchmarks.report import report
from isthmus import documents
from isthmus.adapters.local.blobs import DirectoryBlobStore
from isthmus.adapters.local.queue import MemoryQueue, MemoryTasks
from isthmus.adapters.local.records import MemoryRecords
from isthmus.adapters.system import SystemClock, SystemThreads
from isthmus.model import layout
from isthmus.model.blob import BlobRef
from isthmus.model.dataset import DatasetFile, Manifest
from isthmus.model.device import DeviceDescriptor
from isthmus.model.job import Framework, Job, Training
from isthmus.model.ledger import Entry
from isthmus.model.messages import Work
from isthmus.model.own_cost import OwnCost
from isthmus.planning.rig_rate import rig_rate
from isthmus.rig.agent import Agent
from isthmus.rig.environments import source_folder
from isthmus.rig.runner import JobRunner
from isthmus.rig.services import RigSettings, Services
from isthmus.workflows import keep_ledger
from isthmus.workflows.devices import RegisteredDevices
from isthmus.workflows.plan_training import Planned, plan_training
from isthmus.workflows.train_on_rig import finish_attempt, train_on_rig

EPOCHS = {"small": 1500, "medium": 2500, "large": 4000}
RUNS = {"small": 4, "medium": 3, "large": 3}
"""After the first of each, one after the other: as somebody works on a network, and then on the next."""
DEADLINE_SECONDS = 600
OWN = OwnCost(
    purchase_usd=2000, life_years=4, utilisation=0.5, watts=150, idle_watts=30, tariff_usd_per_kwh=0.3
)
"""A machine that somebody might have; the rate is a factor of both sides."""
SCRIPT = """
import os
import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

hyper = {name[6:].lower(): value for name, value in os.environ.items() if name.startswith("SM_HP_")}
rng = np.random.default_rng(int(hyper["seed"]))
with np.load(os.path.join(os.environ["SM_CHANNEL_TRAIN"], "digits.npz")) as data:
    x, labels = data["images"].astype(np.float32) / 16, data["labels"]
wide = 256
w1, w2 = rng.normal(0, 0.1, (64, wide)).astype(np.float32), rng.normal(0, 0.1, (wide, 10)).astype(np.float32)
for epoch in range(int(hyper["epochs"])):
    order, loss = rng.permutation(len(x)), 0.0
    for start in range(0, len(x), 32):
        rows = order[start : start + 32]
        hidden = np.maximum(x[rows] @ w1, 0)
        scores = hidden @ w2
        share = np.exp(scores - scores.max(1, keepdims=True))
        share /= share.sum(1, keepdims=True)
        loss -= np.log(share[np.arange(len(rows)), labels[rows]] + 1e-9).sum()
        share[np.arange(len(rows)), labels[rows]] -= 1
        back = (share @ w2.T) * (hidden > 0)
        w2 -= 0.1 * hidden.T @ share / len(rows)
        w1 -= 0.1 * x[rows].T @ back / len(rows)
    print(f"epoch={epoch} loss={loss / len(x):.5f}", flush=True)
nodes = [helper.make_node("MatMul", ["x", "w1"], ["h"]), helper.make_node("Relu", ["h"], ["r"]),
         helper.make_node("MatMul", ["r", "w2"], ["scores"])]
ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", s]) for n, s in (("x", 64), ("scores", 10))]
graph = helper.make_graph(nodes, "digits", ends[:1], ends[1:],
                          [numpy_helper.from_array(w1, "w1"), numpy_helper.from_array(w2, "w2")])
save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8),
     os.path.join(os.environ["SM_MODEL_DIR"], "model.onnx"))
"""


class Pipeline:
    """A rig and its control plane on this machine: their own workflows and agent, a bucket in a folder, a table in
    memory, and the state machine's part played here."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.blobs, self.records = DirectoryBlobStore(folder / "bucket"), MemoryRecords()
        self.queue, self.tasks, self.clock = MemoryQueue(), MemoryTasks(), SystemClock()
        self.devices = RegisteredDevices(self.records)
        self.devices.register(_this_machine())
        settings = RigSettings(rig="here", folder=folder / "rig", receive_seconds=1, poll_seconds=0.2)
        services = Services(self.queue, self.records, self, self.blobs, self, self.clock, SystemThreads())
        runner = JobRunner(interpreter=lambda *_: Path(sys.executable), source=source_folder(folder))
        self.agent = Agent(settings, services, runner, lambda event, **fields: None)
        self._data, self._code = self._put_data(), self._put_code()

    # What the state machine does: once the wait for a rig is answered, it hands the training's token out.
    def succeed(self, token: str, output: Any) -> None:
        self.tasks.succeed(token, output)
        if token.startswith("wait "):
            _, key, fencing = token.split()
            again = self.tasks.open(f"train {key} {fencing}")
            train_on_rig(
                key, int(fencing), again, records=self.records, tasks=self.tasks, now=self.clock.now()
            )

    def fail(self, token: str, error: str, cause: str) -> None:
        self.tasks.fail(token, error, cause)

    def heartbeat(self, token: str) -> None:
        self.tasks.heartbeat(token)

    def finished(self, job_key: str, fencing: int) -> None:
        finish_attempt(job_key, fencing, records=self.records, tasks=self.tasks)

    def run(self, model: str, seed: int) -> Entry:
        """Train once; return what the ledger says of it."""
        key = self._registered(model, seed)
        planned = self._planned(key)
        frozen = keep_ledger.read_entry(key, planned.fencing, self.records)
        self._send(key, planned)
        outcome = self.agent.step()
        if outcome is None or outcome.state != "SUCCEEDED":
            raise SystemExit(f"the training of {model} did not succeed: {outcome}")
        keep_ledger.settle(key, None, now=self.clock.now(), records=self.records)
        entry = keep_ledger.read_entry(key, planned.fencing, self.records)
        if entry is None or frozen is None or entry.estimate != frozen.estimate:
            raise SystemExit("the estimate was changed after it was frozen")
        return entry

    def _planned(self, key: str) -> Planned:
        return plan_training(
            key, now=self.clock.now(), blobs=self.blobs, records=self.records, devices=self.devices
        )

    def _send(self, key: str, planned: Planned) -> None:
        self.queue.send(
            Work(
                job_key=key,
                fencing=planned.fencing,
                job=layout.registered_job(key),
                manifest=layout.registered_manifest(key),
                token=self.tasks.open(f"wait {key} {planned.fencing}"),
                execution="here",
                max_seconds=planned.max_seconds,
            )
        )

    def _registered(self, model: str, seed: int) -> str:
        source = Training(
            framework=Framework(name="mxnet", version="1.9.1"),
            entry_point="train.py",
            code=self._code,
            hyperparameters={"epochs": EPOCHS[model], "seed": seed},
            deadline_seconds=DEADLINE_SECONDS,
        )
        raw = documents.encode(Job(model=model, source=source))
        reference = BlobRef(key="job.json", sha256=documents.sha256(raw), size_bytes=len(raw))
        manifest = Manifest(dataset="digits", files=(self._data,), job=reference)
        key = layout.job_key(documents.digest(manifest), reference.sha256)
        self.blobs.put(layout.registered_job(key), raw)
        self.blobs.put(layout.registered_manifest(key), documents.encode(manifest))
        return key

    def _put_data(self) -> DatasetFile:
        import numpy as np
        from sklearn.datasets import load_digits

        digits, stream = load_digits(), io.BytesIO()
        np.savez(stream, images=digits.data.astype(np.uint8), labels=digits.target)
        data = stream.getvalue()
        digest = documents.sha256(data)
        self.blobs.put(layout.dataset_folder("digits") + layout.blob_path(digest), data)
        return DatasetFile(path="train/digits.npz", sha256=digest, size_bytes=len(data))

    def _put_code(self) -> BlobRef:
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("train.py", SCRIPT)
        data = stream.getvalue()
        self.blobs.put("code/train.zip", data)
        return BlobRef(key="code/train.zip", sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))


def _this_machine() -> DeviceDescriptor:
    return DeviceDescriptor(
        id="here",
        kind="rig",
        zone="onprem",
        arch=platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        disk_free_bytes=1 << 40,
        frameworks={"mxnet": ("1.9.1",)},
        price_per_hour_usd=rig_rate(OWN).usd,
        cost=OWN,
    )


def _row(entry: Entry) -> dict[str, Any]:
    done = entry.settlement
    if done is None:
        raise SystemExit("the ledger was not settled")
    said, cost = entry.estimate.charges.training_usd, done.charges.training_usd
    return {
        "model": entry.model,
        "estimated_seconds": round(entry.estimate.used.training_seconds, 3),
        "reported_seconds": round(done.used.training_seconds, 3),
        "estimated_usd": round(said, 8),
        "cost_usd": round(cost, 8),
        "error": round(abs(said - cost) / cost, 4),
        "basis": entry.estimate.basis,
        "total_error": round(abs(entry.estimate.total_usd - done.total_usd) / done.total_usd, 4),
    }


def main() -> None:
    """Train each network once unknown, and then so often that there are ten more; print each."""
    os.environ["OMP_NUM_THREADS"] = "1"  # on cores that others use too, two threads wait for each other
    with tempfile.TemporaryDirectory(prefix="isthmus-cost-") as folder:
        pipeline = Pipeline(Path(folder))
        first: list[dict[str, Any]] = []
        rows: list[dict[str, Any]] = []
        for name, runs in RUNS.items():
            for seed in range(1 + runs):
                row = _row(pipeline.run(name, seed))
                (rows if seed else first).append(row)
                print(json.dumps(row), file=sys.stderr, flush=True)
    errors = [row["error"] for row in rows]
    report(
        "cost_estimate",
        ours=statistics.median(errors),
        reference=1.0,
        unit="of what it cost",
        rows=rows,
        worst=max(errors),
        with_everything_else=statistics.median(row["total_error"] for row in rows),
        first_of_each=first,
        rate_usd_per_hour=round(rig_rate(OWN).usd, 6),
        reference_is="what it cost, from the seconds that the rig reported",
    )


if __name__ == "__main__":
    main()
