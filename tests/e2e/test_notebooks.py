"""The example notebook as a job on the rig: what it leaves, how it fails, how its runs are told and compared."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from demo.stamp import ROOT
from demo.system import RIG, CommandFailed, System
from tests.e2e import world
from tests.e2e.cleanup import client

pytestmark = pytest.mark.e2e

NOTEBOOK = ROOT / "notebooks/digits.ipynb"
MODEL = "digits-notebook"


def run_notebook(
    system: System, data: Path, notebook: Path, job: Path, out: Path, *parameters: str
) -> dict[str, Any]:
    """Run a notebook on the rig to its end; return what the command says, whatever the end."""
    given = [part for text in parameters for part in ("-p", text)]
    where = ["--on", "rig", "--job", job, "--data", data, "--name", MODEL, "--out", out, "--json"]
    command = [system.bin / "isthmus", "notebook", "run", notebook, *where, *given]
    done = subprocess.run(command, env=system.env, cwd=ROOT, capture_output=True, text=True, check=False)
    said = dict(json.loads(done.stdout))
    assert (done.returncode == 0) == (said.get("status") == "DEPLOYED"), done
    return said


@pytest.fixture(scope="module")
def ran(system: System, digits: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The example notebook's run."""
    out = tmp_path_factory.mktemp("notebook")
    return run_notebook(system, digits, NOTEBOOK, NOTEBOOK.with_suffix(".yaml"), out)


def outputs_of(notebook: Path) -> list[dict[str, Any]]:
    """Return what the cells of an executed notebook put out."""
    cells = json.loads(notebook.read_text())["cells"]
    return [entry for cell in cells for entry in cell.get("outputs", [])]


def test_the_example_notebook_runs_on_the_rig_and_its_model_ships(
    system: System, ran: dict[str, Any]
) -> None:
    assert ran["status"] == "DEPLOYED", ran
    assert ran["metrics"]["test_accuracy"] >= 0.97
    executed = outputs_of(Path(ran["notebook"]))
    assert sum("image/png" in entry.get("data", {}) for entry in executed) == 2
    assert any("epoch=8" in "".join(entry.get("text", "")) for entry in executed)
    assert world.champion(system, MODEL)["release"] == 1


def test_the_executed_notebook_is_an_artifact_of_the_job(system: System, ran: dict[str, Any]) -> None:
    bucket = world.outputs(system)["Bucket"]
    key = f"jobs/{ran['job_key']}/attempts/1/output/data/digits.ipynb"
    body = client(system, "s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    assert body == Path(ran["notebook"]).read_bytes()


def test_its_curves_are_told(system: System, ran: dict[str, Any]) -> None:
    told = json.loads(system.isthmus("pipeline", "metrics", ran["job_key"], "--metric", "loss", "--json"))
    losses = told["curves"]["curves"]["loss"]["values"]
    assert len(losses) == 8
    assert losses[-1] == ran["metrics"]["loss"] < losses[0]
    assert "loss" in system.isthmus("pipeline", "metrics", ran["job_key"])


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example with a cell that fails behind the one that trains."""
    folder = tmp_path_factory.mktemp("failing")
    notebook = json.loads(NOTEBOOK.read_text())
    place = next(n for n, cell in enumerate(notebook["cells"]) if cell["id"] == "curve")
    bad = {**notebook["cells"][place], "id": "bad", "source": ["raise KeyError('no such digit')"]}
    notebook["cells"].insert(place, bad)
    (folder / "digits.ipynb").write_text(json.dumps(notebook))
    job = yaml.safe_load(NOTEBOOK.with_suffix(".yaml").read_text())
    (folder / "digits.yaml").write_text(yaml.safe_dump(job))
    return folder


def test_a_cell_that_fails_is_named_and_what_ran_is_kept(
    system: System, digits: Path, ran: dict[str, Any], failing: Path, tmp_path: Path
) -> None:
    job = failing / "digits.yaml"
    failed = run_notebook(system, digits, failing / "digits.ipynb", job, tmp_path, "epochs=1")
    assert failed["status"] == "FAILED"
    assert "cell 9 of digits.ipynb failed: KeyError: 'no such digit'" in failed["error"]
    executed = outputs_of(Path(failed["notebook"]))
    assert any(entry.get("ename") == "KeyError" for entry in executed)
    assert any("epoch=1 " in "".join(entry.get("text", "")) for entry in executed)
    compared = json.loads(system.isthmus("pipeline", "compare", ran["job_key"], failed["job_key"], "--json"))
    assert compared["hyperparameters"]["epochs"] == {"a": 8, "b": 1}
    assert compared["hyperparameters"]["learning_rate"] == {"a": 0.002, "b": 0.002}
    assert compared["run"]["state"] == {"a": "DEPLOYED", "b": "FAILED"}
    assert compared["run"]["device"]["a"] == RIG
    assert compared["run"]["cost usd"]["a"] > 0
    assert compared["gate"]["accuracy"]["a"] >= 0.97


def test_a_parameter_that_the_notebook_has_not_starts_nothing(
    system: System, digits: Path, tmp_path: Path
) -> None:
    before = set(world.executions(system))
    with pytest.raises(CommandFailed, match=r"has the parameters batch_size, .* and not epoch"):
        system.isthmus(
            "notebook", "run", NOTEBOOK, "--on", "rig", "--job", NOTEBOOK.with_suffix(".yaml"), "--data", digits,
            "--name", MODEL, "--out", tmp_path, "-p", "epoch=3",
        )  # fmt: skip
    assert set(world.executions(system)) == before
