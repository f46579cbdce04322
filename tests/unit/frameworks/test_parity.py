from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from isthmus.errors import InvalidModel, ParityFailed
from isthmus.frameworks import export, parity
from isthmus.frameworks.port import Arrays, Input, Reference


class Scale:
    """A trained model that multiplies by a factor."""

    inputs = (Input("x", (1, 3)),)

    def __init__(self, factor: float) -> None:
        self._factor = factor

    def run(self, arrays: Arrays) -> list[Any]:
        return [arrays["x"] * np.float32(self._factor)]


class ScaleFramework:
    """A framework whose models are a factor in ``factor.txt``; it exports ``times`` too much."""

    module = "scale"

    def __init__(self, times: float = 1.0) -> None:
        self._times = times

    def prepare(self) -> None: ...

    def is_saved(self, model_dir: Path) -> bool:
        return (model_dir / "factor.txt").is_file()

    def load(self, model_dir: Path) -> Reference:
        return Scale(float((model_dir / "factor.txt").read_text()))

    def export(self, model_dir: Path, target: Path) -> None:
        write_model(target, float((model_dir / "factor.txt").read_text()) * self._times)

    def how_to_save(self) -> str:
        return "write factor.txt"


def write_model(path: Path, factor: float, batch: str | int = "batch") -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 3])
    constant = helper.make_tensor("factor", TensorProto.FLOAT, [], [factor])
    graph = helper.make_graph([helper.make_node("Mul", ["x", "factor"], ["y"])], "g", [x], [y], [constant])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))


@pytest.mark.parametrize(
    ("actual", "expected", "difference"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([0.1], [0.2], 0.1),
        ([101.0], [100.0], 0.01),
        ([math.inf, 1.0], [math.inf, 1.0], 0.0),
        ([math.nan], [math.nan], 0.0),
        ([math.nan], [1.0], math.inf),
        ([1.0], [[1.0]], math.inf),
    ],
)
def test_relative_difference(actual: list[float], expected: list[float], difference: float) -> None:
    assert parity.relative_difference(actual, expected) == pytest.approx(difference)


def test_a_faithful_export_passes_on_several_batch_sizes(tmp_path: Path) -> None:
    (tmp_path / "factor.txt").write_text("0.5")
    report = export.export(ScaleFramework(), tmp_path, 1e-4)
    assert report == json.loads((tmp_path / "export.json").read_text()) | {
        "parity": {"difference": 0.0, "tolerance": 1e-4, "batches": parity.BATCHES}
    }
    assert report["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}]
    assert (report["opset"], report["ir_version"]) == (13, 8)


def test_a_wrong_export_fails_with_the_figure_and_leaves_no_report(tmp_path: Path) -> None:
    (tmp_path / "factor.txt").write_text("1.0")
    with pytest.raises(ParityFailed, match=r"differs .* by \d\.\d\de-04 relative .* allows 1e-04"):
        export.export(ScaleFramework(times=1.0005), tmp_path, 1e-4)
    assert not (tmp_path / "export.json").exists()


def test_a_scripts_own_onnx_is_kept_and_compared_with_its_model(tmp_path: Path) -> None:
    (tmp_path / "factor.txt").write_text("1.0")
    write_model(tmp_path / "model.onnx", 2.0, batch=1)
    with pytest.raises(ParityFailed, match="batch sizes 1"):
        export.export(ScaleFramework(), tmp_path, 1e-4)


def test_a_scripts_own_onnx_alone_is_described_without_parity(tmp_path: Path) -> None:
    write_model(tmp_path / "model.onnx", 2.0, batch=4)
    report = export.export(ScaleFramework(), tmp_path, 1e-4)
    assert report["parity"] is None
    assert report["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [4, 3]}]


def test_no_model_and_a_broken_model_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match=r"left no model in SM_MODEL_DIR: write factor\.txt"):
        export.export(ScaleFramework(), tmp_path, 1e-4)
    (tmp_path / "model.onnx").write_bytes(b"rubbish")
    with pytest.raises(InvalidModel, match=r"model\.onnx cannot be opened"):
        export.export(ScaleFramework(), tmp_path, 1e-4)
