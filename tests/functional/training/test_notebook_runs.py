"""Notebooks that really run: the entry point alone, and the example on this machine through the public API."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import isthmus
from isthmus.frameworks import notebook
from tests.functional.training.test_training_mxnet import EXAMPLES, digits, environments

__all__ = ["digits", "environments"]

EXAMPLE = EXAMPLES.parent / "notebooks" / "digits.ipynb"
pytestmark = pytest.mark.slow


def cell(source: str, *tags: str) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "execution_count": None,
        "id": f"c{abs(hash(source)) % 10**8}",
        "metadata": {"tags": list(tags)} if tags else {},
        "outputs": [],
        "source": source,
    }


def started(folder: Path, *cells: dict[str, Any], **parameters: Any) -> subprocess.Popen[str]:
    """Start a notebook by its entry point, under what SageMaker tells a script, with this interpreter."""
    document = {"cells": list(cells), "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (folder / "n.ipynb").write_text(json.dumps(document))
    program = folder / notebook.program_of("n.ipynb")
    program.write_bytes(notebook.program())
    (folder / "output").mkdir()
    variables = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder / "home"),
        "SM_HPS": json.dumps(parameters),
        "SM_OUTPUT_DIR": str(folder / "output"),
        "SM_OUTPUT_DATA_DIR": str(folder / "output/data"),
    }
    return subprocess.Popen(
        [sys.executable, program], env=variables, cwd=folder, stdout=subprocess.PIPE, text=True
    )


def executed(folder: Path) -> list[dict[str, Any]]:
    """Return the outputs of the executed notebook's cells."""
    cells = json.loads((folder / "output/data/n.ipynb").read_text())["cells"]
    return [entry for one in cells for entry in one.get("outputs", [])]


PARAMETERS = cell("epochs = 1\nlearning_rate = 0.1\nname = 'x'\nflag = False", "parameters")


def test_parameters_keep_their_types_and_metrics_come_while_a_cell_runs(tmp_path: Path) -> None:
    waits = "import os\nprint('loss=0.5')\nwhile not os.path.exists('go'): pass\n"
    shows = "print([type(v).__name__ for v in (epochs, learning_rate, name, flag)], epochs, flag)"
    process = started(
        tmp_path, PARAMETERS, cell(waits), cell(shows),
        **{"epochs": 3, "learning-rate": 0.25, "name": "7", "flag": True},
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        lines: list[str] = []
        while "loss=0.5\n" not in lines:
            lines.append(process.stdout.readline())
            assert lines[-1], lines
        (tmp_path / "go").touch()  # the cell waits for it: its line came before it ended
        lines += process.stdout.readlines()
    assert process.returncode == 0
    assert "['int', 'float', 'str', 'bool'] 3 True\n" in lines
    assert "notebook_progress=1\n" in lines
    assert not (tmp_path / "output/failure").exists()


def test_a_cell_that_fails_is_named_and_what_ran_is_kept(tmp_path: Path) -> None:
    process = started(tmp_path, PARAMETERS, cell("print('fine')"), cell("{}['label']"), epochs=2)
    process.communicate(timeout=60)
    assert process.returncode == 1
    failure = (tmp_path / "output/failure").read_text().splitlines()
    assert failure[-1] == "cell 3 of n.ipynb failed: KeyError: 'label'"
    outputs = executed(tmp_path)
    assert any("".join(entry.get("text", "")) == "fine\n" for entry in outputs)
    assert any(entry.get("ename") == "KeyError" for entry in outputs)


def test_sigterm_interrupts_the_cell_and_no_further_one_begins(tmp_path: Path) -> None:
    waits = (
        "import threading\nprint('waiting')\ntry:\n    while True: threading.Event().wait(0.1)\n"
        "except KeyboardInterrupt:\n    print('saved=1')"
    )
    process = started(tmp_path, cell(waits), cell("print('after')"))
    with process:
        assert process.stdout is not None
        while process.stdout.readline() != "waiting\n":
            pass
        process.send_signal(signal.SIGTERM)
        lines = process.stdout.readlines()
    assert process.returncode == 128 + signal.SIGTERM
    assert "saved=1\n" in lines
    assert "after\n" not in lines


def test_the_example_notebook_runs_on_this_machine(
    environments: Any, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    handle = isthmus.submit(
        EXAMPLE, job=EXAMPLE.with_suffix(".yaml"), data=digits, name="digits", on="local", out="out"
    )
    assert handle.wait() == "SUCCEEDED", handle.error
    assert handle.metrics["test_accuracy"] >= 0.97
    cells = json.loads(handle.notebook().read_text())["cells"]
    outputs = [entry for one in cells for entry in one.get("outputs", [])]
    assert sum("image/png" in entry.get("data", {}) for entry in outputs) == 2
    assert (tmp_path / "out/model.onnx").is_file()
