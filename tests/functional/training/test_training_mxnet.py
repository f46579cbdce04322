"""Real trainings in the real MXNet environment, under the runner that a rig uses."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import shutil
import threading
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from isthmus.model.blob import BlobRef
from isthmus.model.job import Framework, Training
from isthmus.ports import TrainingRun
from isthmus.rig.environments import Environments, find_uv, source_folder
from isthmus.rig.runner import JobRunner, TrainingRequest

EXAMPLES = Path(__file__).parents[3] / "examples"
CACHE = Path(os.environ.get("ISTHMUS_TEST_CACHE", EXAMPLES.parent / ".isthmus" / "environments"))
"""Environments are built once and kept: ``.isthmus`` is ignored by git."""

pytestmark = pytest.mark.slow

FIXED_BATCH = """
import json, os
import mxnet as mx
from mxnet.gluon import nn

class Fixed(nn.HybridBlock):
    def hybrid_forward(self, F, x):
        return F.broadcast_add(x, F.ones((4, 3)))

net = Fixed()
net.initialize()
net.hybridize()
net(mx.nd.zeros((4, 3)))
folder = os.environ["SM_MODEL_DIR"]
net.export(os.path.join(folder, "model"))
with open(os.path.join(folder, "model-shapes.json"), "w") as file:
    json.dump([{"name": "data", "shape": [4, 3]}], file)
"""
UNEXPORTABLE = FIXED_BATCH.replace("F.broadcast_add(x, F.ones((4, 3)))", "F.erfinv(x)")


@pytest.fixture(scope="session")
def environments() -> Environments:
    find_uv()  # raises EnvironmentProblem, which says what to install
    return Environments(CACHE)


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's dataset."""
    folder = tmp_path_factory.mktemp("digits")
    path = EXAMPLES / "digits" / "make_dataset.py"
    spec = importlib.util.spec_from_file_location("make_digits", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.make_dataset(folder)
    return folder


def train(environments: Environments, work: Path, code: Path, data: Path, **changes: Any) -> TrainingRun:
    """Run ``code`` (a folder with ``train.py``) as an attempt on this machine."""
    archive = Path(shutil.make_archive(str(work / "code"), "zip", code))
    values: dict[str, Any] = {
        "framework": Framework(name="mxnet", version="1.9.1"),
        "entry_point": "train.py",
        "code": BlobRef(key="code.zip", sha256="0" * 64, size_bytes=archive.stat().st_size),
    }
    request = TrainingRequest(
        name="test",
        run_id=uuid.uuid4().hex,
        training=Training(**(values | changes)),
        code=archive,
        channels={"train": data / "train", "test": data / "test"},
        work=work / "attempt",
    )
    runner = JobRunner(interpreter=environments.ensure, source=source_folder(CACHE))
    return runner.run(request, threading.Event())


def train_script(environments: Environments, tmp_path: Path, script: str, **changes: Any) -> TrainingRun:
    code = tmp_path / "code"
    code.mkdir()
    (code / "train.py").write_text(script)
    return train(environments, tmp_path, code, tmp_path, **changes)


@pytest.fixture(scope="session")
def trained(
    environments: Environments, digits: Path, tmp_path_factory: pytest.TempPathFactory
) -> TrainingRun:
    return train(environments, tmp_path_factory.mktemp("job"), EXAMPLES / "digits", digits)


def held_out(digits: Path) -> tuple[Any, Any]:
    with (digits / "test" / "digits.csv").open() as file:
        table = np.array(list(csv.reader(file)), dtype="float32")
    return table[:, :64].reshape(-1, 1, 8, 8) / 16, table[:, 64]


def test_the_digits_example_reaches_98_percent_within_a_minute(trained: TrainingRun) -> None:
    assert trained.exit_code == 0, trained.tail
    assert trained.metrics["test_accuracy"] >= 0.98
    assert trained.seconds < 60


def test_its_export_computes_what_was_trained(trained: TrainingRun, digits: Path) -> None:
    report = json.loads((trained.output / "model" / "export.json").read_text())
    assert report["parity"]["difference"] <= 1e-4
    images, labels = held_out(digits)
    engine = onnxruntime.InferenceSession(str(trained.output / "model" / "model.onnx"))
    (scores,) = engine.run(None, {report["inputs"][0]["name"]: images})
    assert (scores.argmax(axis=1) == labels).mean() == pytest.approx(
        trained.metrics["test_accuracy"], abs=1e-4
    )


def test_the_model_is_opset_13_with_an_open_batch_and_weights_that_cannot_be_replaced(
    trained: TrainingRun,
) -> None:
    model = onnx.load(str(trained.output / "model" / "model.onnx"))
    assert (model.opset_import[0].version, model.ir_version) == (13, 8)
    assert [entry.name for entry in model.graph.input] == ["data"]
    dimensions = model.graph.output[0].type.tensor_type.shape.dim
    assert [dimension.dim_param or dimension.dim_value for dimension in dimensions] == ["batch", 10]


def test_the_same_seed_trains_the_same_model(
    environments: Environments, digits: Path, trained: TrainingRun, tmp_path: Path
) -> None:
    again = train(environments, tmp_path, EXAMPLES / "digits", digits)
    assert again.metrics["loss"] == trained.metrics["loss"]
    assert again.metrics["test_accuracy"] == trained.metrics["test_accuracy"]


def test_a_model_that_computes_something_else_fails(
    environments: Environments, trained: TrainingRun, tmp_path: Path
) -> None:
    """The script leaves the trained network's files next to an ONNX model whose last bias is wrong."""
    code = tmp_path / "code"
    shutil.copytree(trained.output / "model", code)
    model = onnx.load(str(code / "model.onnx"))
    bias = next(entry for entry in model.graph.initializer if entry.name.endswith("dense1_bias"))
    wrong = onnx.numpy_helper.to_array(bias) + np.float32(0.1)
    bias.CopyFrom(onnx.numpy_helper.from_array(wrong, bias.name))
    onnx.save(model, str(code / "model.onnx"))
    (code / "train.py").write_text(
        "import os, shutil\nfor name in os.listdir('.'):\n    shutil.copy(name, os.environ['SM_MODEL_DIR'])\n"
    )
    done = train(environments, tmp_path, code, tmp_path)
    assert done.exit_code == 1
    assert "ParityFailed: the exported model.onnx differs from the trained model by" in done.tail
    assert not (done.output / "model" / "export.json").exists()


def test_a_network_with_a_fixed_batch_is_exported_with_it(environments: Environments, tmp_path: Path) -> None:
    done = train_script(environments, tmp_path, FIXED_BATCH)
    assert done.exit_code == 0, done.tail
    report = json.loads((done.output / "model" / "export.json").read_text())
    assert report["inputs"][0]["shape"] == [4, 3]
    assert report["parity"]["batches"] == [4]


def test_an_operator_without_an_onnx_counterpart_is_named(environments: Environments, tmp_path: Path) -> None:
    done = train_script(environments, tmp_path, UNEXPORTABLE)
    assert done.exit_code == 1
    assert "InvalidModel: MXNet cannot export this network to ONNX" in done.tail
    assert "erfinv" in done.tail
