from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from workflow_world import World

from isthmus import documents
from isthmus.errors import InvalidJob
from isthmus.frameworks import notebook
from isthmus.model.job import Job, Training
from isthmus.sync import run_folder
from isthmus.workflows.push_dataset import prepare

HASH = f"--hash=sha256:{'0' * 64}"
PARAMETERS = {
    "cell_type": "code",
    "metadata": {"tags": ["parameters"]},
    "source": ["epochs = 3\n"],
    "outputs": [{"output_type": "stream", "name": "stdout", "text": ["secret"]}],
    "execution_count": 4,
}
SOURCE: dict[str, Any] = {
    "kind": "training",
    "framework": {"name": "mxnet", "version": "1.9.1"},
    "entry_point": "nb/train.ipynb",
    "code": "code",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a dataset in ``data`` and a notebook in ``code/nb``."""
    base = tmp_path / "project"
    for name, text in (
        ("data/train/a.csv", "1,2\n"),
        ("code/nb/train.ipynb", json.dumps({"cells": [PARAMETERS], "metadata": {}, "nbformat": 4})),
        ("code/helpers.py", "x = 1\n"),
        ("code/nb/.ipynb_checkpoints/train-checkpoint.ipynb", "secret"),
    ):
        path = base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return base


def packed(world: World, project: Path, **source: Any) -> tuple[Training, dict[str, bytes]]:
    """Return the job's source, and the files of its code archive."""
    work = world.workdir()
    job = {"model": "digits", "source": SOURCE | source}
    prepare("digits", project / "data", job, project, work)
    read = documents.decode(Job, (work / "job.json").read_bytes(), "the job")
    assert isinstance(read.source, Training)
    with zipfile.ZipFile(work / "code.zip") as archive:
        return read.source, {name: archive.read(name) for name in archive.namelist()}


def test_a_notebook_is_packed_with_what_runs_it_and_without_its_outputs(world: World, project: Path) -> None:
    training, files = packed(world, project, hyperparameters={"epochs": 5})
    assert training.entry_point == "nb/train.ipynb.py"
    assert sorted(files) == ["helpers.py", "nb/train.ipynb", "nb/train.ipynb.py", "requirements.txt"]
    assert files["nb/train.ipynb.py"] == notebook.program()
    assert b"papermill==" in files["requirements.txt"]
    assert b"secret" not in b"".join(files.values())


def test_a_notebook_that_was_run_on_the_laptop_is_the_same_job(world: World, project: Path) -> None:
    first, _ = packed(world, project)
    path = project / "code/nb/train.ipynb"
    path.write_text(path.read_text().replace("secret", "another output"))
    again, _ = packed(world, project)
    assert again.code.sha256 == first.code.sha256


def test_notebooks_beside_a_script_lose_their_outputs_too(world: World, project: Path) -> None:
    training, files = packed(world, project, entry_point="helpers.py")
    assert (training.entry_point, sorted(files)) == ("helpers.py", ["helpers.py", "nb/train.ipynb"])
    assert b"secret" not in files["nb/train.ipynb"]


def test_what_runs_left_is_no_code(world: World, project: Path) -> None:
    """Neither by the folder's default name, nor by its marker; a run makes no other job of the next one."""
    first, _ = packed(world, project)
    for folder in ("train.run", "nb/mine"):
        left = project / "code" / folder
        run_folder.note(left, ["train.log"])
        (left / "data").mkdir()
        for name in ("train.log", "data/rows.csv", "data/train.ipynb"):
            (left / name).write_text("patient=1")
    (project / "code/train.run" / run_folder.MARKER).unlink()
    again, files = packed(world, project)
    assert b"patient" not in b"".join(files.values())
    assert again.code.sha256 == first.code.sha256


def test_requirements_of_ones_own_stay_as_they_are_and_must_have_what_runs_it(
    world: World, project: Path
) -> None:
    own = project / "code/requirements.txt"
    own.write_text(f"papermill==2.7.0 {HASH}\nipykernel==7.4.0 {HASH}\n")
    _, files = packed(world, project)
    assert files["requirements.txt"] == own.read_bytes()
    own.write_text(f"papermill==2.7.0 {HASH}\n")
    with pytest.raises(InvalidJob, match="lacks ipykernel, which nb"):
        packed(world, project)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ({"hyperparameters": {"epoch": 1}}, "has the parameters epochs, and not epoch"),
        ({"distribution": {"torch_distributed": {"enabled": True}}}, "runs as one process"),
        ({"framework": {"name": "mxnet", "version": "1.8.0"}}, "nothing is locked here for mxnet 1.8.0"),
    ],
)
def test_a_notebook_that_cannot_run_is_refused_before_anything_is_sent(
    world: World, project: Path, source: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InvalidJob, match=reason):
        packed(world, project, **source)


def test_an_image_brings_what_runs_a_notebook(world: World, project: Path) -> None:
    image = f"registry.example/trainer@sha256:{'0' * 64}"
    _, files = packed(world, project, framework={"name": "mxnet", "version": "1.8.0"}, image=image)
    assert "requirements.txt" not in files
