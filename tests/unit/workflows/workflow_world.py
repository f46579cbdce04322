"""A control plane in memory: the fakes that ship, a dataset of 40 samples, and tiny real ONNX models."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from onnx import TensorProto, helper, numpy_helper

from isthmus import documents
from isthmus.adapters.local.blobs import DirectoryBlobStore
from isthmus.adapters.local.records import MemoryRecords
from isthmus.adapters.local.signer import MemorySigner
from isthmus.config import DeployCloudSettings, DeployEdgeSettings
from isthmus.inference.engine import OnnxEngine
from isthmus.model import layout
from isthmus.model.blob import BlobRef
from isthmus.model.dataset import DatasetFile, Manifest
from isthmus.model.device import Accelerator, DeviceDescriptor
from isthmus.model.job import Evaluation, Framework, HeldOut, Import, Job, Training
from isthmus.model.processing import Affine, Decode
from isthmus.ports import FunctionCode
from isthmus.workflows.start_pipeline import manifest_job_key

NOW = "2026-01-02T03:04:05+00:00"
CLASSES = 3
TRUTH = np.eye(CLASSES, dtype=np.float32)
"""Weights of the perfect model: the largest of three inputs is the class."""


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def held_out() -> tuple[Any, Any]:
    """Forty samples ``[40, 3]`` (uint8) and their labels; each class has at least ten."""
    labels = np.arange(40) % CLASSES
    inputs = np.full((40, CLASSES), 10, np.uint8)
    inputs[np.arange(40), labels] = 200
    return inputs, labels.astype(np.int64)


def onnx_model(weights: Any = TRUTH, *, batch: int | str = "n", width: int = CLASSES) -> bytes:
    """``logits [n, 3] = x [n, width] @ weights`` as an ONNX file."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["logits"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, width])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, CLASSES])],
        [numpy_helper.from_array(np.asarray(weights, np.float32), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def weights_right_for(classes: int) -> Any:
    """Weights of a model that knows ``classes`` of the three, and answers 0 for the others."""
    weights = np.zeros((CLASSES, CLASSES), np.float32)
    weights[range(classes), range(classes)] = 1
    return weights


def device(name: str = "rig-1", **changes: Any) -> DeviceDescriptor:
    values: dict[str, Any] = {
        "id": name,
        "kind": "rig",
        "zone": "onprem-milan",
        "arch": "x86_64",
        "cores": 8,
        "memory_bytes": 16 << 30,
        "disk_free_bytes": 1 << 40,
        "frameworks": {"mxnet": ("1.9.1",)},
        "queue_url": f"https://sqs/{name}",
    }
    return DeviceDescriptor(**(values | changes))


GPU = Accelerator(model="RTX 4090", memory_bytes=24 << 30)


def pattern(code: str = "code-1", layers: tuple[str, ...] = ("core:1", "onnx:1")) -> FunctionCode:
    return FunctionCode("https://code", code, layers, {"MemorySize": 1769, "Environment": {"Variables": {}}})


CLOUD = DeployCloudSettings(
    bucket="data",
    table="table",
    signing_key="key",
    stack="shop",
    serving_function="serve",
    weights_function="serve-weights",
    rollout_weights=(0.1, 0.5, 1.0),
    rollout_step_seconds=60,
    rollout_max_slowdown=2.0,
    rollout_max_error_rate=0.01,
    rollout_bake_seconds=180,
    serving_start="cold",
    event_bus="shop",
)
EDGE = DeployEdgeSettings(
    bucket="data",
    table="table",
    signing_key="key",
    stack="shop",
    edge_function="edge",
    edge_target="arn:aws:iot:eu-west-1:000000000000:thinggroup/shop-cores",
    edge_canaries="arn:aws:iot:eu-west-1:000000000000:thinggroup/shop-canaries",
    edge_bake_seconds=60,
    edge_port=8770,
    edge_root="/greengrass/v2",
)


@dataclass
class World:
    """Bucket, table and signer, with the helpers that put documents there as an uploader does."""

    folder: Path
    records: MemoryRecords = field(default_factory=MemoryRecords)
    signer: MemorySigner = field(default_factory=MemorySigner)

    def __post_init__(self) -> None:
        self.blobs = DirectoryBlobStore(self.folder / "bucket")
        self._workdirs = 0

    def workdir(self) -> Path:
        """A folder of its own for one call of a workflow."""
        self._workdirs += 1
        path = self.folder / f"work-{self._workdirs}"
        path.mkdir()
        return path

    def engine(self, path: Path) -> OnnxEngine:
        return OnnxEngine(path, threads=1)

    def put_blob(self, key: str, data: bytes) -> BlobRef:
        self.blobs.put(key, data)
        return BlobRef(key=key, sha256=documents.sha256(data), size_bytes=len(data))

    def put_files(self, dataset: str = "digits") -> tuple[DatasetFile, ...]:
        inputs, labels = held_out()
        files = []
        for path, data in (("test/x.npy", npy(inputs)), ("test/y.npy", npy(labels))):
            digest = documents.sha256(data)
            self.blobs.put(layout.dataset_folder(dataset) + layout.blob_path(digest), data)
            files.append(DatasetFile(path=path, sha256=digest, size_bytes=len(data)))
        return tuple(files)

    def training(self, **changes: Any) -> Training:
        code = self.put_blob("code/c.zip", b"code")
        framework = Framework(name="mxnet", version="1.9.1")
        values: dict[str, Any] = {"framework": framework, "entry_point": "train.py", "code": code}
        return Training(**(values | changes))

    def job(self, source: Training | Import | None = None, **changes: Any) -> Job:
        values: dict[str, Any] = {
            "model": "digits",
            "source": source or self.training(),
            "raw_shape": (CLASSES,),
            "raw_dtype": "uint8",
            "preprocessing": (Affine(scale=1 / 255),),
            "evaluation": Evaluation(
                inputs=HeldOut(path="test/x.npy", decode=Decode(format="npy", dtype="uint8")),
                labels=HeldOut(path="test/y.npy", decode=Decode(format="npy", dtype="int64")),
                minimum=0.3,
            ),
        }
        return Job(**(values | changes))

    def manifest(
        self, job: Job | None = None, files: tuple[DatasetFile, ...] | None = None, dataset: str = "digits"
    ) -> Manifest:
        raw = documents.encode(job or self.job())
        reference = self.put_blob(f"{layout.dataset_folder(dataset)}jobs/{documents.sha256(raw)}.json", raw)
        return Manifest(
            dataset=dataset, files=self.put_files(dataset) if files is None else files, job=reference
        )

    def upload(self, manifest: Manifest, name: str = "m") -> tuple[str, str]:
        """Write a manifest where uploaders do; return its key and its job key."""
        key = f"{layout.dataset_folder(manifest.dataset)}manifests/{name}.json"
        self.blobs.put(key, documents.encode(manifest))
        return key, manifest_job_key(manifest)

    def registered(self, job: Job | None = None) -> str:
        """Put a job's documents where registering leaves them; return its key."""
        job = job or self.job()
        manifest = self.manifest(job)
        key = manifest_job_key(manifest)
        self.blobs.put(layout.registered_manifest(key), documents.encode(manifest))
        self.blobs.put(layout.registered_job(key), documents.encode(job))
        self.records.update(
            layout.job_pk(key), layout.STATE, {"model": job.model, "dataset": "digits", "started_at": NOW}
        )
        return key

    def attempt_left(self, key: str, fencing: int, model: bytes) -> None:
        """Put what a rig uploads of a successful attempt."""
        prefix = layout.attempt_output(key, fencing)
        self.blobs.put(prefix + "model.onnx", model)
        files = [{"path": "model.onnx", "sha256": documents.sha256(model), "size_bytes": len(model)}]
        self.blobs.put(prefix + "output.json", msgspec.json.encode({"files": files}))

    def lease(self, key: str) -> Mapping[str, Any]:
        return self.records.get(layout.job_pk(key), layout.LEASE) or {}

    def state(self, key: str) -> Mapping[str, Any]:
        return self.records.get(layout.job_pk(key), layout.STATE) or {}
