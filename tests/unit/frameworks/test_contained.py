"""A training in a container: its data get their names, its model is exported, a failure says why."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from isthmus.workflows import source_archive

SCRIPT = """
import argparse, json, os, sys, time
import numpy, onnx
from onnx import TensorProto, helper, numpy_helper

parser = argparse.ArgumentParser()
parser.add_argument("--wait", type=int, default=0)
parser.add_argument("--fail", type=int, default=0)
options = parser.parse_args()
print("loss=0.5 epoch=2", flush=True)
if options.fail:
    raise ValueError("no such class")
if options.wait:
    open(os.path.join(os.environ["SM_CHECKPOINT_DIR"], "one"), "w").write("1")
    time.sleep(60)
print("rows=%d" % len(open(os.path.join(os.environ["SM_CHANNEL_TRAIN"], "deep/rows.csv")).readlines()), flush=True)
print("files=%d" % sum(len(names) for _, _, names in os.walk(os.environ["SM_CHANNEL_TRAIN"])), flush=True)
weights = numpy_helper.from_array(numpy.ones((3, 2), dtype="float32"), "w")
graph = helper.make_graph(
    [helper.make_node("MatMul", ["x", "w"], ["y"])], "g",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])], [weights])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
onnx.save(model, os.path.join(os.environ["SM_MODEL_DIR"], "model.onnx"))
"""
ROWS = b"1,2\n3,4\n"


class Container:
    """What SageMaker and its toolkit make before they start the program."""

    def __init__(self, root: Path, rows: bytes = ROWS) -> None:
        self.ml, self.code = root / "ml", root / "ml/code"
        digest = hashlib.sha256(ROWS).hexdigest()
        for name in ("model", "output/data", "checkpoints", "input/data/train/blobs", "code"):
            (self.ml / name).mkdir(parents=True)
        (self.ml / "input/data/train/blobs" / digest).write_bytes(rows)
        files = [("train/deep/rows.csv", digest), ("train/again.csv", digest)]
        channels = [
            {"channel": "train", "path": path, "object": f"blobs/{sha256}", "sha256": sha256}
            for path, sha256 in files
        ]
        job: dict[str, Any] = {
            "framework": "mxnet",
            "entry_point": "train.py",
            "launcher": "",
            "parity_tolerance": 1e-4,
            "streams": False,
            "channels": channels,
        }
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("train.py", SCRIPT)
        (root / "code.zip").write_bytes(packed.getvalue())
        source_archive.make(root / "code.zip", job, root / "source.tar.gz")
        with tarfile.open(root / "source.tar.gz") as opened:
            opened.extractall(self.code, filter="data")

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        env = {
            "PATH": os.environ["PATH"],
            "SM_MODEL_DIR": str(self.ml / "model"),
            "SM_OUTPUT_DIR": str(self.ml / "output"),
            "SM_NUM_GPUS": "0",
        }
        command = [sys.executable, "isthmus_train.py", *arguments]
        return subprocess.Popen(command, cwd=self.code, env=env, stdout=subprocess.PIPE, text=True)

    def run(self, *arguments: str) -> tuple[int, str]:
        process = self.start(*arguments)
        said, _ = process.communicate(timeout=60)
        return process.returncode, said

    @property
    def failure(self) -> str:
        return (self.ml / "output/failure").read_text()

    @property
    def metrics(self) -> dict[str, float]:
        return dict(json.loads((self.ml / "model/metrics.json").read_text()))


def test_the_script_finds_its_data_and_leaves_a_checked_model(tmp_path: Path) -> None:
    container = Container(tmp_path)
    code, said = container.run()
    assert (code, container.metrics) == (0, {"loss": 0.5, "epoch": 2.0, "rows": 2.0, "files": 2.0})
    assert "loss=0.5" in said
    report = json.loads((container.ml / "model/export.json").read_text())
    assert (report["opset"], report["inputs"][0]["shape"]) == (17, [-1, 3])


def test_a_script_that_fails_leaves_its_reason_and_no_export(tmp_path: Path) -> None:
    container = Container(tmp_path)
    code, _ = container.run("--fail", "1")
    assert code == 1
    assert "ValueError: no such class" in container.failure
    assert not (container.ml / "model/export.json").exists()


@pytest.mark.parametrize("rows", [b"other", b""])
def test_other_data_than_the_datasets_are_not_trained_on(tmp_path: Path, rows: bytes) -> None:
    container = Container(tmp_path, rows)
    code, _ = container.run()
    assert code == 1
    assert "train/deep/rows.csv has the SHA-256" in container.failure


def test_sigterm_reaches_the_script_and_nothing_is_exported(tmp_path: Path) -> None:
    container = Container(tmp_path)
    process = container.start("--wait", "1")
    assert process.stdout is not None
    process.stdout.readline()
    while not (container.ml / "checkpoints/one").exists():
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM
    assert not (container.ml / "model/export.json").exists()
