"""A job on SageMaker: through to service, and from an interrupted spot training on to a rig."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from demo.stamp import ROOT
from demo.system import RIG, System, wait_until
from tests.e2e import world
from tests.e2e.cleanup import client
from tests.e2e.permissions import failures

pytestmark = pytest.mark.e2e

IMAGE = "000000000000.dkr.ecr.eu-west-1.amazonaws.com/isthmus-training:mxnet-1.9.1"
DEVICE = "sagemaker-ml-m5-xlarge"
TOOLKIT = ROOT / "localcloud/src/isthmus_localcloud/sagemaker/toolkit.py"
HELD = "import os, time\nwhile not os.path.exists({go!r}): time.sleep(0.1)\n"
HELD_AT_AN_EPOCH = """
import os, time
rename = os.rename
def hold(source, target):
    rename(source, target)
    while target.endswith("epoch-2") and not os.path.exists({go!r}):
        time.sleep(0.1)
os.rename = hold
"""
"""Waits after the second epoch's checkpoint, which is complete by then."""
ENDS_LATE = """
import signal
told = []
signal.signal(signal.SIGTERM, lambda *_: told.append(True))
""" + HELD_AT_AN_EPOCH.replace("time.sleep(0.1)\n", "time.sleep(0.1)\n    if told: raise SystemExit(143)\n")
"""One that is told to end does so only when it may go on."""


@pytest.fixture(scope="module", autouse=True)
def image(system: System, with_core_device: bool) -> Iterator[None]:
    """The training image: what it does is done by the toolkit's stand-in, with the rig's environment for MXNet."""
    if not with_core_device:
        pytest.skip("a real account needs an image in its registry")
    python = next((system.folder / "rig/environments").glob("mxnet-1.9.1*/bin/python"))
    images = system.cloud / "images.json"
    before = images.read_text() if images.exists() else "{}"
    images.write_text(json.dumps({**json.loads(before), "isthmus-training": [str(python), str(TOOLKIT)]}))
    system.isthmus("sagemaker", "set", "--types", "ml.m5.xlarge", "--image", f"mxnet-1.9.1={IMAGE}")
    yield
    key = {"pk": {"S": "SETTINGS"}, "sk": {"S": "SAGEMAKER"}}
    client(system, "dynamodb").delete_item(TableName=world.outputs(system)["Table"], Key=key)
    images.write_text(before)


def show(system: System, key: str) -> dict[str, Any]:
    return dict(json.loads(system.isthmus("pipeline", "show", key, "--json")))


def training_jobs(system: System, key: str) -> list[dict[str, Any]]:
    """Return a job's training jobs on SageMaker, the oldest first."""
    sagemaker = client(system, "sagemaker")
    named = sagemaker.list_training_jobs(NameContains=f"{system.stack}-{key[:12]}")["TrainingJobSummaries"]
    names = [entry["TrainingJobName"] for entry in named]
    return [sagemaker.describe_training_job(TrainingJobName=name) for name in reversed(names)]


def weights(system: System, key: str, attempt: int) -> list[Any]:
    """Return the arrays of the model that an attempt left."""
    place = f"jobs/{key}/attempts/{attempt}/output/model.onnx"
    body = client(system, "s3").get_object(Bucket=world.outputs(system)["Bucket"], Key=place)["Body"].read()
    return [numpy_helper.to_array(entry) for entry in onnx.load_from_string(body).graph.initializer]


def planned(system: System, key: str) -> bool:
    """Whether a job's attempt is on the list of what devices have to do."""
    item = {"pk": {"S": "PLANNED"}, "sk": {"S": key}}
    table = world.outputs(system)["Table"]
    return "Item" in client(system, "dynamodb").get_item(TableName=table, Key=item)


def test_a_job_goes_through_sagemaker_into_service(system: System, digits: Path, tmp_path: Path) -> None:
    job = world.write_job(tmp_path, model="cloudy", hyperparameters={"epochs": 8})
    text = system.isthmus(
        "dataset", "push", digits, "--name", "digits", "--job", job, "--on", "sagemaker", "--json"
    )
    key = json.loads(text)["job_key"]
    ended = world.wait_for_end(system, key)
    assert ended["state"] == "DEPLOYED", ended
    expected = ["RegisterDataset", "PlanTraining", "PrepareSagemaker", "TrainOnSageMaker", "CollectModel"]
    assert world.steps_of(ended)[:6] == [*expected, "EvaluateModel"]
    shown = show(system, key)
    assert (shown["plan"]["device"], shown["plan"]["spot"]) == (DEVICE, True)
    assert {entry["device"] for entry in shown["plan"]["refusals"]} == {RIG, DEVICE}
    assert shown["training"]["state"] == "SUCCEEDED"
    assert shown["metrics"]["epoch"] == 8
    assert "parity" in shown["metrics"]
    (made,) = training_jobs(system, key)
    assert (made["TrainingJobStatus"], made["EnableManagedSpotTraining"]) == ("Completed", True)
    assert {"loss", "epoch"} <= {entry["MetricName"] for entry in made["FinalMetricDataList"]}
    assert made["ExperimentConfig"] == {"TrialComponentDisplayName": made["TrainingJobName"]}
    assert "because: no rig may and can in time" in system.isthmus("pipeline", "show", key)


def test_a_script_that_fails_there_says_why(system: System, digits: Path, tmp_path: Path) -> None:
    job = world.write_job(tmp_path, model="cloudy", script="raise ValueError('no such class: 11')\n")
    answer = system.isthmus(
        "dataset", "push", digits, "--name", "digits", "--job", job, "--on", "sagemaker", "--json"
    )
    key = json.loads(answer)["job_key"]
    ended = world.wait_for_end(system, key)
    assert (ended["state"], ended["error"]) == ("FAILED", "TrainingFailed"), ended
    assert "ValueError: no such class: 11" in ended["cause"]
    bucket, left = world.outputs(system)["Bucket"], f"checkpoints/{key}/sagemaker/left"
    client(system, "s3").put_object(Bucket=bucket, Key=left, Body=b"of another attempt")
    system.isthmus("job", "retry", key)
    wait_until(lambda: show(system, key)["attempt"] == 2, "another attempt", 60)
    assert world.wait_for_end(system, key)["state"] == "FAILED"
    found = client(system, "s3").list_objects_v2(Bucket=bucket, Prefix=left)
    assert found.get("KeyCount", 0) == 0, "no checkpoint has it"


@pytest.mark.parametrize(
    ("again", "waits"),
    [
        (("pipeline", "redrive"), "CollectModelFunction"),
        (("job", "retry"), "PrepareSagemakerFunction"),
    ],
)
def test_a_stopped_pipeline_stops_its_job_and_goes_on_in_one_new_job_after_its_end(
    system: System, digits: Path, tmp_path: Path, again: tuple[str, str], waits: str
) -> None:
    go = tmp_path / "go"
    script = ENDS_LATE.format(go=str(go))
    job = world.write_job(tmp_path, model="cloudy", script=script, hyperparameters={"epochs": 4})
    answer = system.isthmus(
        "dataset", "push", digits, "--name", "digits", "--job", job, "--on", "sagemaker", "--json"
    )
    key = json.loads(answer)["job_key"]
    wait_until(lambda: checkpoint(system, key), "the second epoch's checkpoint in the bucket", 120)
    system.isthmus("pipeline", "stop", key, "--reason", "to see it redriven")
    wait_until(lambda: training_jobs(system, key)[0]["TrainingJobStatus"] == "Stopping", "its job's stop", 60)
    assert world.wait_for_end(system, key)["state"] == "ABORTED"
    system.isthmus(*again, key)
    wait_until(
        lambda: failures.taken(system, waits, "sagemaker:StopTrainingJob"), "who waits for its end", 90
    )
    assert len(training_jobs(system, key)) == 1
    go.touch()
    wait_until(lambda: len(training_jobs(system, key)) == 2, "another job", 90)
    assert world.wait_for_end(system, key)["state"] in ("DEPLOYED", "REJECTED")
    first, second = training_jobs(system, key)
    assert (first["TrainingJobStatus"], second["TrainingJobStatus"]) == ("Stopped", "Completed")
    assert first["CheckpointConfig"] == second["CheckpointConfig"]
    said = system.isthmus("local", "logs", second["TrainingJobName"], "--state", system.cloud)
    assert "epoch=4 " in said
    assert "epoch=2 " not in said, "it went on from there"


def test_an_interrupted_spot_training_goes_on_on_the_rig_to_the_same_weights(
    system: System, digits: Path, tmp_path: Path
) -> None:
    for name in ("holds", "moves", "stays"):
        (tmp_path / name).mkdir()
    go = str(tmp_path / "go")
    source = {"offline_tolerance_seconds": 6}
    holds = world.write_job(
        tmp_path / "holds", model="holds", script=HELD.format(go=f"{go}-never"), source=source
    )
    held = system.push(digits, holds, "digits")
    world.wait_for_step(system, held, "TrainOnRig")
    common: dict[str, Any] = {
        "model": "moves",
        "script": HELD_AT_AN_EPOCH.format(go=go),
        "hyperparameters": {"epochs": 5},
        "evaluation": {"minimum": 0.0},
    }
    moves = world.write_job(tmp_path / "moves", source={**source, "queue_deadline_seconds": 60}, **common)
    key = system.push(digits, moves, "digits")
    world.wait_for_step(system, key, "TrainOnSageMaker")
    assert show(system, key)["plan"]["spot"] is True
    wait_until(lambda: checkpoint(system, key), "the second epoch's checkpoint in the bucket", 90)
    system.isthmus("pipeline", "stop", held, "--reason", "the rig is needed")
    wait_until(lambda: not planned(system, held), "the rig to be free", 60)
    Path(go).touch()
    (made,) = training_jobs(system, key)
    system.isthmus("local", "interrupt", made["TrainingJobName"], "--state", system.cloud)
    ended = world.wait_for_end(system, key)
    assert ended["state"] == "DEPLOYED", ended
    assert [s for s in world.steps_of(ended) if s.startswith("Train")] == ["TrainOnSageMaker", "TrainOnRig"]
    (made,) = training_jobs(system, key)
    assert "Interrupted" in [entry["Status"] for entry in made["SecondaryStatusTransitions"]]
    assert made["TrainingJobStatus"] == "Stopped"
    shown = show(system, key)
    assert (shown["plan"]["device"], shown["attempt"]) == (RIG, 2)
    taken_back = {entry["device"]: entry["reason"] for entry in shown["plan"]["refusals"]}
    assert "took back the spot capacity" in taken_back[f"{DEVICE} spot"]
    assert f"checkpoints job_key={key} files=" in (system.folder / "logs/rig.log").read_text()
    stays = world.write_job(tmp_path / "stays", source=source, **common)
    whole = system.push(digits, stays, "digits")
    world.wait_for_end(system, whole)
    moved, uninterrupted = weights(system, key, 2), weights(system, whole, 1)
    assert len(moved) == len(uninterrupted) > 5
    assert all(np.array_equal(a, b) for a, b in zip(moved, uninterrupted, strict=True))


def checkpoint(system: System, key: str) -> bool:
    found = client(system, "s3").list_objects_v2(
        Bucket=world.outputs(system)["Bucket"], Prefix=f"checkpoints/{key}/sagemaker/epoch-2/"
    )
    return found.get("KeyCount", 0) >= 2
