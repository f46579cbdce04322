"""Fashion-MNIST, where Debian's package or its four files are there."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import yaml

from isthmus import documents
from isthmus.adapters.local.blobs import DirectoryBlobStore
from isthmus.inference.engine import OnnxEngine
from isthmus.inference.processing import decode_raw, preprocess
from isthmus.model import layout
from isthmus.model.blob import BlobRef
from isthmus.model.dataset import DatasetFile, Manifest
from isthmus.model.job import Job, Training
from isthmus.rig.environments import Environments, source_folder
from isthmus.rig.runner import JobRunner, TrainingRequest
from isthmus.workflows.quantize_model import MAX_LOST, choose_variant
from tests.functional.training.test_training_mxnet import CACHE, EXAMPLES

EXAMPLE = EXAMPLES / "fashion_mnist"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fashion")
    done = subprocess.run(
        [sys.executable, str(EXAMPLE / "make_dataset.py"), str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip(done.stderr.strip())
    return folder


def test_fashion_mnist_reaches_91_percent_as_its_job_evaluates_it(data: Path, tmp_path: Path) -> None:
    written = yaml.safe_load((EXAMPLE / "job.yaml").read_text())
    written["source"]["code"] = {"key": "code.zip", "sha256": "0" * 64, "size_bytes": 1}
    job = documents.convert(Job, written, "the job")
    assert isinstance(job.source, Training)
    assert job.evaluation is not None
    code = Path(shutil.make_archive(str(tmp_path / "code"), "zip", EXAMPLE))
    channels = {"train": data / "train", "test": data / "test"}
    request = TrainingRequest("fashion", "fashion-test", job.source, code, channels, tmp_path / "attempt")
    runner = JobRunner(interpreter=Environments(CACHE).ensure, source=source_folder(CACHE))
    run = runner.run(request, threading.Event())
    assert run.exit_code == 0, run.tail
    parity = json.loads((run.output / "model/export.json").read_text())["parity"]["difference"]
    assert parity <= 1e-4
    held_out = (job.evaluation.inputs, job.evaluation.labels)
    inputs, labels = (
        decode_raw((data / part.path).read_bytes(), part.decode, part.path) for part in held_out
    )
    session = onnxruntime.InferenceSession(str(run.output / "model/model.onnx"))
    scores = session.run(None, {session.get_inputs()[0].name: preprocess(inputs, job.preprocessing)})[0]
    assert float((scores.argmax(1) == labels.reshape(-1)).mean()) >= 0.91
    in_8_bits(run.output / "model/model.onnx", job, data, tmp_path)


def in_8_bits(model: Path, job: Job, data: Path, folder: Path) -> None:
    """The 8-bit variant loses at most half a point on the published test set, or is not offered."""
    blobs = DirectoryBlobStore(folder / "bucket")
    files = []
    for path in {part.path for part in (job.evaluation.inputs, job.evaluation.labels)}:
        content = (data / path).read_bytes()
        digest = documents.sha256(content)
        blobs.put(layout.dataset_folder("fashion") + layout.blob_path(digest), content)
        files.append(DatasetFile(path=path, sha256=digest, size_bytes=len(content)))
    reference = BlobRef(key="job.json", sha256="0" * 64, size_bytes=1)
    manifest = Manifest(dataset="fashion", files=tuple(files), job=reference)
    chosen, figures = choose_variant(
        model,
        job,
        manifest,
        blobs=blobs,
        open_engine=lambda path: OnnxEngine(path, threads=2),
        workdir=folder,
    )
    print(figures)
    assert (figures.samples, figures.calibration_samples) == (9744, 256)
    assert figures.accuracy is not None
    assert figures.served is (figures.accuracy >= figures.float_accuracy - MAX_LOST)
    assert (chosen != model) is figures.served
    assert figures.served, figures.reason


def test_the_files_are_the_published_ones(data: Path) -> None:
    labels = gzip.decompress((data / "test/labels.idx.gz").read_bytes())
    assert np.bincount(np.frombuffer(labels, "uint8", offset=8)).tolist() == [1000] * 10
