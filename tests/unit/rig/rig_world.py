"""A rig, a bucket and a control plane in memory, held together by the real workflows."""

from __future__ import annotations

import hashlib
import sys
import threading
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from isthmus import documents
from isthmus.adapters.local.blobs import DirectoryBlobStore
from isthmus.adapters.local.queue import ManualClock, MemoryQueue, MemoryTasks
from isthmus.adapters.local.records import MemoryRecords
from isthmus.adapters.system import SystemThreads
from isthmus.errors import Unavailable
from isthmus.model import layout
from isthmus.model.blob import BlobRef
from isthmus.model.dataset import DatasetFile, Manifest
from isthmus.model.job import Framework, Job, Training
from isthmus.model.messages import DEFAULT_TEAM, Work
from isthmus.ports import Item
from isthmus.rig.environments import source_folder
from isthmus.rig.runner import JobRunner
from isthmus.rig.services import RigSettings, Services
from isthmus.workflows.train_on_rig import finish_attempt, train_on_rig

KEY = "0123456789abcdef0123456789abcdef01234567"

LEAVES_A_MODEL = """
import os
import onnx
from onnx import TensorProto, helper

x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2])
y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])
graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "tiny", [x], [y])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
onnx.save(model, os.path.join(os.environ["SM_MODEL_DIR"], "model.onnx"))
"""


def zip_of(files: Mapping[str, str], path: Path) -> Path:
    """Write a zip archive."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def training(code: Path, **changes: Any) -> Training:
    """A training whose archive is ``code``."""
    data = code.read_bytes()
    values: dict[str, Any] = {
        "framework": Framework(name="mxnet", version="1.9.1"),
        "entry_point": "train.py",
        "code": BlobRef(key="code.zip", sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data)),
    }
    return Training(**(values | changes))


class StepFunctions(MemoryTasks):
    """Once the wait for a rig is answered, hands the training's token out, as the state machine does."""

    def __init__(self, records: MemoryRecords) -> None:
        super().__init__()
        self._records = records
        self.handed_out: list[str] = []
        self.hands_out = True

    def succeed(self, token: str, output: Mapping[str, Any]) -> None:
        super().succeed(token, output)
        if token.startswith("wait") and self.hands_out:
            self.hand_out(int(output["fencing"]))

    def hand_out(self, fencing: int) -> str:
        token = self.open(f"train-{fencing}")
        train_on_rig(KEY, fencing, token, records=self._records, tasks=self)
        self.handed_out.append(token)
        return token


class FinishAttempt:
    """The reporter: runs the workflow that answers the training's token."""

    def __init__(self, records: MemoryRecords, tasks: MemoryTasks) -> None:
        self._records, self._tasks = records, tasks
        self.delivered: list[bool] = []

    def finished(self, job_key: str, fencing: int) -> None:
        done = finish_attempt(job_key, fencing, records=self._records, tasks=self._tasks)
        self.delivered.append(done.delivered)


class FlakyRecords(MemoryRecords):
    """Answers nothing while ``offline`` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.offline = threading.Event()

    def get(self, pk: str, sk: str) -> Item | None:
        if self.offline.is_set():
            raise Unavailable("no route")
        return super().get(pk, sk)

    def create(self, item: Item) -> bool:
        if self.offline.is_set():
            raise Unavailable("no route")
        return super().create(item)

    def update(self, pk: str, sk: str, values: Mapping[str, Any], **conditions: Any) -> None:
        if self.offline.is_set():
            raise Unavailable("no route")
        super().update(pk, sk, values, **conditions)


@dataclass
class World:
    """Everything around an agent."""

    folder: Path
    queue: MemoryQueue = field(default_factory=MemoryQueue)
    records: FlakyRecords = field(default_factory=FlakyRecords)
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    heals: bool = True
    """Whether the network is back after the first call that waits for it."""
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def __post_init__(self) -> None:
        self.blobs: DirectoryBlobStore = DirectoryBlobStore(self.folder / "bucket")
        self.tasks = StepFunctions(self.records)
        self.reporter: FinishAttempt = FinishAttempt(self.records, self.tasks)
        self.settings = RigSettings(
            rig="rig-1",
            folder=self.folder / "rig",
            receive_seconds=1,
            settle_seconds=0,
            poll_seconds=0.02,
            token_seconds=5,
            mirror_seconds=0.05,
            still_seconds=0.01,
            mark_seconds=2,
        )

    @property
    def services(self) -> Services:
        return Services(
            self.queue, self.records, self.tasks, self.blobs, self.reporter, ManualClock(), SystemThreads()
        )

    def report(self, event: str, **fields: Any) -> None:
        with self._changed:
            self.events.append((event, fields))
            if event == "waiting for a service" and self.heals:
                self.records.offline.clear()
            self._changed.notify_all()

    def wait_for(self, condition: Callable[[], bool], seconds: float = 20) -> None:
        """Wait until something that is reported makes the condition true."""
        with self._changed:
            assert self._changed.wait_for(condition, seconds), self.events

    def put_job(self, files: Mapping[str, str], **changes: Any) -> None:
        """Register a job with this code, and a dataset of two files."""
        code = zip_of(files, self.folder / "code.zip")
        source = training(code, **changes)
        self.blobs.put(source.code.key, code.read_bytes())
        job = documents.encode(Job(model="digits", source=source))
        self.blobs.put(layout.registered_job(KEY), job)
        entries = []
        for path, data in (("train/a.csv", b"1,2\n"), ("test/b.csv", b"3,4\n")):
            digest = hashlib.sha256(data).hexdigest()
            self.blobs.put(layout.dataset_folder("digits") + layout.blob_path(digest), data)
            entries.append(DatasetFile(path=path, sha256=digest, size_bytes=len(data)))
        reference = BlobRef(key="job.json", sha256=hashlib.sha256(job).hexdigest(), size_bytes=len(job))
        manifest = Manifest(dataset="digits", files=tuple(entries), job=reference)
        self.blobs.put(layout.registered_manifest(KEY), documents.encode(manifest))

    def send(self, fencing: int = 1, team: str = DEFAULT_TEAM) -> Work:
        """Send the work of one attempt, as the state ``wait_for_rig`` does."""
        work = Work(
            job_key=KEY,
            fencing=fencing,
            job=layout.registered_job(KEY),
            manifest=layout.registered_manifest(KEY),
            token=self.tasks.open(f"wait-{fencing}"),
            execution="execution",
            team=team,
        )
        self.queue.send(work)
        return work

    def lease(self) -> dict[str, Any]:
        return self.records.get(layout.job_pk(KEY), layout.LEASE) or {}

    def runner(self, **changes: Any) -> JobRunner:
        """The real runner, on this interpreter instead of a training environment."""
        options: dict[str, Any] = {
            "interpreter": lambda framework, version, stop: Path(sys.executable),
            "source": source_folder(self.folder),
            "grace_seconds": 0.3,
        }
        return JobRunner(**(options | changes))
