"""A rig with a data root, a pinned dataset in it, and a runner that leaves a real ONNX model."""

from __future__ import annotations

import dataclasses
import io
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from onnx import TensorProto, helper, numpy_helper
from rig_world import KEY, World, training, zip_of

from isthmus import documents
from isthmus.model import layout
from isthmus.model.blob import BlobRef
from isthmus.model.dataset import DatasetFile, InPlace, Manifest
from isthmus.model.job import Evaluation, HeldOut, Job, Training
from isthmus.model.messages import Outcome
from isthmus.model.processing import Decode
from isthmus.ports import TrainingRun
from isthmus.rig.agent import Agent
from isthmus.rig.contract import Layout
from isthmus.rig.runner import TrainingRequest

SECRET = b"patient 4711: 38.9 degrees\n" * 40
CLASSES = 3
PERFECT = np.eye(CLASSES, dtype=np.float32)
PINNED = {"zones": ["onprem-*"], "may_leave": "results"}

Play = Callable[[TrainingRequest], int]


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def model(weights: Any = PERFECT) -> bytes:
    """``logits [n, 3] = x [n, 3] @ weights`` as an ONNX file."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["logits"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", CLASSES])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", CLASSES])],
        [numpy_helper.from_array(np.asarray(weights, np.float32), "w")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(made.SerializeToString())


class ModelRunner:
    """Plays a part instead of a training, and leaves a model and what scripts leave besides."""

    def __init__(self, play: Play, weights: Any) -> None:
        self._play, self._weights = play, weights
        self.requests: list[TrainingRequest] = []

    def check(self, training: Training) -> None:
        """It runs everything."""

    def warm(self) -> None:
        """It has nothing to prepare."""

    def close(self) -> None:
        """It holds nothing."""

    def end(self, run_id: str) -> int:
        return 0

    def run(self, request: TrainingRequest, stop: threading.Event) -> TrainingRun:
        self.requests.append(request)
        folders = Layout(request.work)
        code = self._play(request)
        (folders.model / "model.onnx").write_bytes(model(self._weights))
        folders.log.write_bytes(b"loss=0.5\n" + SECRET)
        (folders.output_data / "samples.csv").write_bytes(SECRET)
        return TrainingRun(code, SECRET.decode(), {"loss": 0.5}, folders.root, 1.5, stop.is_set())


class InPlaceWorld:
    """A dataset that lies in ``scans/2026``; ``scans`` is the data root ``clinic``."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.root = world.folder / "scans"
        self.home = self.root / "2026"
        labels = np.arange(30) % CLASSES
        inputs = np.full((30, CLASSES), 0.1, np.float32)
        inputs[np.arange(30), labels] = 1
        self.write("train/notes.txt", SECRET)
        self.write("test/x.npy", npy(inputs))
        self.write("test/y.npy", npy(labels.astype(np.int64)))
        world.settings = dataclasses.replace(
            world.settings, data_roots={"clinic": self.root}, bucket_zone="aws:eu-west-1", connections=1
        )
        self.put_policy(PINNED)

    def write(self, name: str, data: bytes) -> Path:
        """Write a file that is older than any job."""
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, ns=(10**18, 10**18))
        return path

    def put_policy(self, policy: dict[str, Any]) -> None:
        item = {"pk": layout.dataset_pk("digits"), "sk": layout.POLICY, "policy": policy}
        self.world.records.put(item)

    def put_job(self, **changes: Any) -> Manifest:
        """Register a job on the dataset as it lies there now."""
        code = zip_of({"train.py": ""}, self.world.folder / "code.zip")
        source = training(code)
        self.world.blobs.put(source.code.key, code.read_bytes())
        evaluation = Evaluation(
            inputs=HeldOut(path="test/x.npy", decode=Decode(format="npy", dtype="float32")),
            labels=HeldOut(path="test/y.npy", decode=Decode(format="npy", dtype="int64")),
        )
        job = documents.encode(Job(model="digits", source=source, evaluation=evaluation))
        self.world.blobs.put(layout.registered_job(KEY), job)
        names = [path for path in sorted(self.home.rglob("*")) if path.is_file()]
        values: dict[str, Any] = {
            "dataset": "digits",
            "files": tuple(map(self._entry, names)),
            "job": BlobRef(key="job.json", sha256=documents.sha256(job), size_bytes=len(job)),
            "in_place": InPlace(zone="onprem-milan", root="clinic", folder="2026"),
        }
        manifest = Manifest(**(values | changes))
        self.world.blobs.put(layout.registered_manifest(KEY), documents.encode(manifest))
        return manifest

    def _entry(self, path: Path) -> DatasetFile:
        data = path.read_bytes()
        name = path.relative_to(self.home).as_posix()
        return DatasetFile(path=name, sha256=documents.sha256(data), size_bytes=len(data))

    def run(
        self, play: Play = lambda request: 0, *, weights: Any = PERFECT, fencing: int = 1
    ) -> tuple[Outcome, ModelRunner]:
        """See one attempt through."""
        runner = ModelRunner(play, weights)
        self.world.send(fencing)
        outcome = Agent(self.world.settings, self.world.services, runner, self.world.report).step()
        assert outcome is not None
        return outcome, runner

    def left(self, fencing: int = 1) -> list[str]:
        """Return the names of what an attempt left in the bucket."""
        prefix = layout.attempt_output(KEY, fencing)
        return sorted(info.key.removeprefix(prefix) for info in self.world.blobs.keys(prefix))

    def told(self) -> bytes:
        """Return all that the bucket and the table hold."""
        objects = b"".join(
            info.key.encode() + self.world.blobs.get(info.key, max_bytes=2**30)
            for info in self.world.blobs.keys("")
        )
        items = [self.world.lease(), self.world.records.query(layout.job_pk(KEY)), self.world.tasks.answers]
        return objects + msgspec.json.encode(items)
