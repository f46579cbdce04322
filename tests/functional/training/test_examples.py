"""The examples' jobs are valid, and fit the scripts and datasets next to them."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from isthmus import documents
from isthmus.model.job import Job, Training
from isthmus.rig.definitions import frameworks

EXAMPLES = Path(__file__).parents[3] / "examples"
JOBS = sorted(EXAMPLES.glob("*/job.yaml"))


def load(path: Path) -> tuple[Job, Training]:
    """Return a job with a stand-in for the archive that the CLI would pack."""
    document = yaml.safe_load(path.read_text())
    assert (path.parent / document["source"]["code"] / document["source"]["entry_point"]).is_file()
    document["source"]["code"] = {"key": "code.zip", "sha256": "0" * 64, "size_bytes": 1}
    job = documents.convert(Job, document, str(path))
    assert isinstance(job.source, Training)
    return job, job.source


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.parent.name)
def test_a_job_fits_its_schema_its_script_and_this_rig(path: Path) -> None:
    _, training = load(path)
    assert training.framework.version in frameworks()[training.framework.name]
    script = (path.parent / training.entry_point).read_text()
    assert all(f'"--{name}"' in script for name in training.hyperparameters)


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.parent.name)
def test_a_script_runs_on_sagemakers_python_3_8(path: Path) -> None:
    ast.parse((path.parent / "train.py").read_text(), feature_version=(3, 8))


def digits(folder: Path) -> bytes:
    """Make the dataset; return the part that its job evaluates."""
    command = [sys.executable, str(EXAMPLES / "digits" / "make_dataset.py"), str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    job, _ = load(EXAMPLES / "digits" / "job.yaml")
    assert job.evaluation is not None
    return (folder / job.evaluation.inputs.path).read_bytes()


@pytest.mark.slow
def test_the_digits_dataset_has_what_its_job_evaluates_each_time(tmp_path: Path) -> None:
    held_out = digits(tmp_path / "a")
    rows = held_out.decode().splitlines()
    assert len(rows) == 360
    assert all(len(row.split(",")) == 65 for row in rows)
    assert held_out == digits(tmp_path / "b")


def test_fashion_mnist_says_what_to_install_when_it_is_not_there(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "fashion_mnist" / "make_dataset.py")]
    done = subprocess.run(
        [*command, str(tmp_path / "out"), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "apt-get install dataset-fashion-mnist" in done.stderr
