"""The repository's Fashion-MNIST example, trained as a rig trains it, and its full test set."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import yaml

from isthmus import documents
from isthmus.inference.processing import decode_raw, preprocess
from isthmus.model.job import Job, Training
from isthmus.rig.environments import Environments, source_folder
from isthmus.rig.runner import JobRunner, TrainingRequest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "fashion_mnist"
ENVIRONMENTS = ROOT / ".isthmus" / "environments"
"""Built once and kept, as the tests' are: ``.isthmus`` is ignored by git."""


def job() -> Job:
    """Return the example's job, with a stand-in for the archive that the CLI would pack."""
    written = yaml.safe_load((EXAMPLE / "job.yaml").read_text())
    written["source"]["code"] = {"key": "code.zip", "sha256": "0" * 64, "size_bytes": 1}
    return documents.convert(Job, written, "the example's job")


def dataset(folder: Path) -> Path:
    """Lay out the dataset.

    Raises:
        SystemExit: it is not on this machine; the sentence says how to get it.
    """
    command = [sys.executable, str(EXAMPLE / "make_dataset.py"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr.strip())
    return folder


def train(data: Path, folder: Path) -> Path:
    """Train the example, and return the ONNX file; about a minute and a half of two cores.

    Raises:
        SystemExit: the training failed; its last lines.
    """
    source = job().source
    assert isinstance(source, Training)
    code = Path(shutil.make_archive(str(folder / "code"), "zip", EXAMPLE))
    channels = {"train": data / "train", "test": data / "test"}
    request = TrainingRequest("fashion", "fashion-quant-cut", source, code, channels, folder / "attempt")
    runner = JobRunner(interpreter=Environments(ENVIRONMENTS).ensure, source=source_folder(ENVIRONMENTS))
    run = runner.run(request, threading.Event())
    if run.exit_code:
        raise SystemExit(f"the example's training failed: {run.tail}")
    return run.output / "model" / "model.onnx"


def test_set(data: Path) -> tuple[Any, Any]:
    """Return the full test set: float32 ``[10000, 1, 28, 28]`` as the model takes it, and labels ``[10000]``."""
    found = job()
    assert found.evaluation is not None
    parts = (found.evaluation.inputs, found.evaluation.labels)
    images, labels = (decode_raw((data / part.path).read_bytes(), part.decode, part.path) for part in parts)
    return preprocess(images, found.preprocessing), labels.reshape(-1)
