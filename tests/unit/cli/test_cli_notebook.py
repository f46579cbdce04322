from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from isthmus.cli.main import main
from isthmus.cli.notebook import parameter

JOB = {"model": "tiny", "source": {"framework": {"name": "mxnet", "version": "1.9.1"}}}
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


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a notebook, its job and a dataset."""

    def cell(source: str, *tags: str) -> dict[str, Any]:
        return {
            "cell_type": "code", "execution_count": None, "id": f"c{len(source)}",
            "metadata": {"tags": list(tags)}, "outputs": [], "source": source,
        }  # fmt: skip

    cells = [cell("rate = 0.5", "parameters"), cell("print(f'rate={rate}')"), cell(LEAVES_A_MODEL)]
    document = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (tmp_path / "n.ipynb").write_text(json.dumps(document))
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(JOB))
    (tmp_path / "data/train").mkdir(parents=True)
    (tmp_path / "data/train/a.csv").write_text("1\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*more: str, notebook: str = "n.ipynb") -> int:
    given = [
        "--on",
        "local",
        "--python",
        sys.executable,
        "--job",
        "job.yaml",
        "--data",
        "data",
        "--name",
        "tiny",
    ]
    return main(["notebook", "run", notebook, *given, *more])


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ("1e-3", 0.001),
        ("1E5", 100000.0),
        ("1.0e-3", 0.001),
        ("3", 3),
        ("true", True),
        ("adam", "adam"),
        ("nan", "nan"),
        ("'1e-3'", "1e-3"),
    ],
)
def test_a_value_is_what_it_looks_like(given: str, value: Any) -> None:
    """YAML 1.1 reads a number without a dot and with an exponent as text."""
    name, read = parameter(f"rate={given}")
    assert (name, read, type(read)) == ("rate", value, type(value))


@pytest.mark.slow
def test_a_notebook_runs_here_and_comes_back(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("-p", "rate=0.25", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["status"], said["metrics"]["rate"], said["error"]) == ("SUCCEEDED", 0.25, "")
    executed = json.loads(Path(said["notebook"]).read_text())
    assert any("rate=0.25" in json.dumps(cell["outputs"]) for cell in executed["cells"] if "outputs" in cell)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (("-p", "rate"), "'rate' is none"),
        (("-p", "=3"), "'=3' is none"),
        (("-p", "rate=[1, 2]"), "a parameter needs a name and one value"),
        (("-p", "rate={"), "a parameter needs a name and one value"),
        (("-p", "speed=1"), "n.ipynb has the parameters rate, and not speed"),
    ],
)
def test_bad_parameters_are_refused_before_anything_runs(
    project: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], reason: str
) -> None:
    assert run(*more) == 2
    assert reason in capsys.readouterr().err
    assert not (project / "n.run").exists()


@pytest.mark.parametrize("notebook", ["gone.ipynb", "job.yaml"])
def test_what_is_no_notebook_is_bad_input(
    project: Path, capsys: pytest.CaptureFixture[str], notebook: str
) -> None:
    assert run(notebook=notebook) == 2
    assert "needs a notebook" in capsys.readouterr().err
