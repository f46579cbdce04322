"""A network that is trained in slices, as one job: through the state machine to a model in service, though one of its
workers is killed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from onnx import numpy_helper

from demo.stamp import ROOT
from demo.system import System, wait_until
from tests.e2e import world
from tests.e2e.cleanup import client

pytestmark = pytest.mark.e2e
EXAMPLE = ROOT / "examples/digits_in_slices"
STEPS = 660


def write_job(folder: Path, name: str, **slices: Any) -> Path:
    """Write the example's job, for a model of this name, with changes of how it is cut and trained."""
    shutil.copytree(EXAMPLE, folder / "code", ignore=shutil.ignore_patterns("__pycache__", "job.yaml"))
    job = yaml.safe_load((EXAMPLE / "job.yaml").read_text())
    job["model"] = name
    job["source"]["code"] = "code"
    job["source"]["slices"] |= slices
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(job))
    return path


def weights(system: System, key: str) -> dict[str, Any]:
    """Return the arrays of the model that the first attempt left, by name."""
    place = f"jobs/{key}/attempts/1/output/model.onnx"
    body = client(system, "s3").get_object(Bucket=world.outputs(system)["Bucket"], Key=place)["Body"].read()
    found = onnx.load_from_string(body).graph.initializer
    return {entry.name: numpy_helper.to_array(entry) for entry in found}


def test_a_job_in_slices_goes_into_service_though_a_worker_is_killed(
    system: System, digits: Path, tmp_path: Path
) -> None:
    for name in ("killed", "other"):
        (tmp_path / name).mkdir()
    killed = write_job(tmp_path / "killed", "cut-in-two", steps=STEPS, every=22)
    key = system.push(digits, killed, "digits")
    log = system.folder / "logs/rig.log"
    wait_until(lambda: f" 22 of {STEPS} steps are kept" in log.read_text(), "the first checkpoint", 180)
    process = re.findall(r"worker 1 is process (\d+)", log.read_text())[-1]
    os.kill(int(process), signal.SIGKILL)
    ended = world.wait_for_end(system, key)
    assert ended["state"] == "DEPLOYED", ended
    shown = json.loads(system.isthmus("pipeline", "show", key, "--json"))
    assert (shown["attempt"], shown["metrics"]["steps"]) == (1, STEPS)
    assert "worker 1 ended with -9, and is started again" in log.read_text()
    assert shown["training"]["state"] == "SUCCEEDED"
    assert [entry["runs_on"] for entry in shown["costs"]] == ["rig"]
    # Cut elsewhere, in three, and undisturbed, it comes to the same weights.
    other = write_job(tmp_path / "other", "cut-in-three", steps=STEPS, every=330, cuts=[4, 7])
    again = system.push(digits, other, "digits")
    assert world.wait_for_end(system, again)["state"] == "DEPLOYED"
    here, there = weights(system, key), weights(system, again)
    assert here.keys() == there.keys()
    assert len(here) > 5
    for name, array in here.items():
        np.testing.assert_allclose(array, there[name], rtol=1e-3, atol=1e-4, err_msg=name)


def test_a_cut_that_is_none_fails_the_job_with_one_sentence(
    system: System, digits: Path, tmp_path: Path
) -> None:
    job = write_job(tmp_path, "cut-nowhere", cuts=[99])
    ended = world.wait_for_end(system, system.push(digits, job, "digits"))
    assert (ended["state"], ended["error"]) == ("FAILED", "TrainingFailed"), ended
    assert "and the others were stopped: InvalidCase:" in ended["cause"]
