"""An upgrade from the previous version while its jobs run: nothing is lost.

A second stack beside the session's: the previous version as it was released, with its own rig and
agent. One of its models is in service, one job trains and one waits in the rig's queue when `sam deploy`
brings this version. The old executions end under their own definition with the new functions, the old
agent finishes what it holds, and a new agent takes what the old version had queued.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from demo.system import CommandFailed, System, wait_until
from tests.e2e import cleanup, previous_version, world

pytestmark = pytest.mark.e2e

NEWER = "image"
"""What the previous version's schema of a job does not have."""

QUESTION = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 0, 0]}]}
ANSWER = [0.0, 1.0]


@dataclass
class Upgrade:
    """What was under way in the old version, and what a client saw meanwhile."""

    system: System
    imported: str = ""
    training: str = ""
    queued: str = ""
    failures: list[str] = field(default_factory=list)
    asked: int = 0


@pytest.fixture(scope="module")
def old(system: System) -> Iterator[System]:
    """The previous version in a stack of its own, with a rig whose agent is of that version too."""
    folder = system.folder / "upgrade"
    folder.mkdir(parents=True, exist_ok=True)
    old = previous_version.beside(system, folder, "-old")
    project = previous_version.unpack(folder)
    previous_version.build(old, project)
    try:
        old.deploy(project=project)
        previous_version.speak(old, project)
        old.join_rig()
        old.start_agent()
        yield old
    finally:
        previous_version.speak(old, None)
        old.leave()
        left = cleanup.remove(old)
    assert not left, f"left behind: {left}"


@pytest.fixture(scope="module")
def upgraded(old: System, digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Upgrade:
    """The upgrade itself, made while a model serves, a job trains and a job waits."""
    folder = tmp_path_factory.mktemp("upgrade")
    upgrade = Upgrade(old)
    upgrade.imported = _import_model(old, folder)
    gate = folder / "go-on"
    waits = f"import os, time\nprint('held', flush=True)\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.1)\n"
    (folder / "held").mkdir()
    upgrade.training = old.push(
        digits, world.write_job(folder / "held", script=waits, without=NEWER), "digits"
    )
    log = old.folder / "logs/rig.log"
    wait_until(lambda: "held" in log.read_text(), "the training to begin", 120)
    (folder / "next").mkdir()
    upgrade.queued = old.push(
        digits, world.write_job(folder / "next", hyperparameters={"epochs": 11}, without=NEWER), "digits"
    )
    world.wait_for_step(old, upgrade.queued, "WaitForRig")
    stop = threading.Event()
    client = threading.Thread(target=_keep_asking, args=(upgrade, folder, stop))
    client.start()
    try:
        previous_version.speak(old, None)
        old.build()
        old.deploy()
    finally:
        stop.set()
        client.join()
        gate.touch()
    return upgrade


def test_the_model_answered_all_the_while(upgraded: Upgrade, tmp_path: Path) -> None:
    assert upgraded.asked > 5
    assert not upgraded.failures, upgraded.failures[:3]
    assert world.champion(upgraded.system, "scores")["release"] == 1
    assert _ask(upgraded.system, tmp_path) == ANSWER


def test_the_training_under_way_ends_in_service(upgraded: Upgrade) -> None:
    ended = world.wait_for_end(upgraded.system, upgraded.training)
    assert ended["state"] == "DEPLOYED", ended
    assert world.steps_of(ended).count("TrainOnRig") == 1, "it was trained again"


def test_what_the_old_version_queued_is_taken_by_a_new_agent(upgraded: Upgrade) -> None:
    system = upgraded.system
    world.wait_for_end(system, upgraded.training)
    system.stop_agent()
    system.start_agent()
    ended = world.wait_for_end(system, upgraded.queued)
    assert ended["state"] in ("DEPLOYED", "REJECTED"), ended
    assert set(world.executions(system)) == {upgraded.imported, upgraded.training, upgraded.queued}


def _import_model(system: System, folder: Path) -> str:
    """Bring a model into service without training; return its job key."""
    weights = numpy_helper.from_array(np.arange(6, dtype=np.float32).reshape(3, 2), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "scores",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "scores.onnx")
    answer = json.loads(
        system.isthmus("model", "import", folder / "scores.onnx", "--name", "scores", "--json")
    )
    ended = world.wait_for_end(system, answer["job_key"])
    assert ended["state"] == "DEPLOYED", ended
    return str(answer["job_key"])


def _ask(system: System, folder: Path) -> list[float]:
    answer = world.ask(system, "scores", QUESTION, folder)
    return list(answer["outputs"][0]["data"])


def _keep_asking(upgrade: Upgrade, folder: Path, stop: threading.Event) -> None:
    while not stop.wait(1):
        try:
            assert _ask(upgrade.system, folder) == ANSWER
        except (CommandFailed, AssertionError) as error:
            upgrade.failures.append(str(error))
        upgrade.asked += 1
