"""The calls that only a failure makes, made to happen: dead letters, and roll-outs that are stopped."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from demo.system import System, wait_until
from tests.e2e import breakage, world
from tests.e2e.cleanup import client
from tests.e2e.permissions.policies import identities, roles


def import_model(system: System, folder: Path, name: str) -> str:
    """Bring a model of one multiplication into the pipeline; return its job key."""
    weights = numpy_helper.from_array(np.ones((3, 2), dtype=np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "sums",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / f"{name}.onnx")
    answer = system.isthmus("model", "import", folder / f"{name}.onnx", "--name", name, "--json")
    return str(json.loads(answer)["job_key"])


def record_file(system: System) -> Path:
    """Return where the local cloud puts its decisions on record."""
    return system.cloud / "logs/iam.jsonl"


def taken(system: System, name: str, action: str) -> bool:
    """Whether an identity was allowed an action."""
    identity = identities(system)[name]
    lines = map(json.loads, record_file(system).read_text().splitlines())
    wanted = (identity, action, "allowed")
    return any((line["identity"], line["action"], line["decision"]) == wanted for line in lines)


def functions_with_dead_letters(system: System) -> dict[str, str]:
    """Return logical id and name of every function of the stack that has a dead-letter queue."""
    lambdas = client(system, "lambda")
    arns = {role: name for name, role in roles(system).items()}
    pages = lambdas.get_paginator("list_functions").paginate()
    found = (entry for page in pages for entry in page["Functions"])
    return {
        arns[role]: entry["FunctionName"]
        for entry in found
        if entry.get("DeadLetterConfig", {}).get("TargetArn")
        and (role := entry["Role"].rpartition("/")[2]) in arns
        # Models' functions have their pattern's role, and no dead letters.
    }


def send_to_dead_letters(system: System) -> None:
    """Let every such function fail on an event that it cannot read, and wait for what Lambda makes of it."""
    lambdas = client(system, "lambda")
    failing = functions_with_dead_letters(system)
    for function in failing.values():
        lambdas.put_function_event_invoke_config(FunctionName=function, MaximumRetryAttempts=0)
        lambdas.invoke(FunctionName=function, InvocationType="Event", Payload=b'{"unreadable": true}')
    for name, function in failing.items():
        sent = functools.partial(taken, system, name, "kms:GenerateDataKey")
        wait_until(sent, f"{name}'s dead letter", 60)
        lambdas.delete_function_event_invoke_config(FunctionName=function)


def stop_a_rollout(system: System, folder: Path) -> dict[str, Any]:
    """Stop a job while its first version is rolled out; return how it ended, once all is taken back."""
    slow = {"ISTHMUS_ROLLOUT_STEP_SECONDS": "10"}
    mend = breakage.environment(system, "DeployCloudFunction", lambda variables: {**variables, **slow})
    key = import_model(system, folder, "stopped")
    stop = functools.partial(system.isthmus, "job", "stop", key)
    breakage.when_entered(system, "DeployCloudMachine", key, "WaitForTraffic", stop)
    ended = world.wait_for_end(system, key)
    stopped = functools.partial(taken, system, "TrainAndDeployMachine", "states:StopExecution")
    wait_until(stopped, "the nested roll-out to be stopped with its parent", 30)
    withdrawn = functools.partial(taken, system, "DeployCloudFunction", "lambda:DeleteAlias")
    wait_until(withdrawn, "the version to be out of service", 60)
    mend()
    return ended


def redrive_what_the_rig_finished(system: System, digits: Path, folder: Path) -> dict[str, Any]:
    """Stop a pipeline while its rig trains, redrive it when the rig has succeeded, and return how it ended.

    Heartbeats are ten seconds apart, so that the rig does not hear of the stop before it has finished: its script waits
    for the stop, and no longer.
    """
    stopped = folder / "stopped"
    waits = f"any(time.sleep(0.1) or os.path.exists({str(stopped)!r}) for _ in range(60))"
    job = world.write_job(
        folder,
        script=f"import os, time\nprint('held for the stop', flush=True)\n{waits}\n",
        source={"offline_tolerance_seconds": 300},
        hyperparameters={"epochs": 1, "learning-rate": 1e-5},
        evaluation={"minimum": 0.0},
    )
    log = system.folder / "logs/rig.log"
    key = system.push(digits, job, "digits")
    wait_until(lambda: "held for the stop" in log.read_text(), "the training to begin", 60)
    system.isthmus("pipeline", "stop", key, "--reason", "to see it redriven")
    stopped.touch()
    ended = f"attempt ended job_key={key} fencing=1 state=SUCCEEDED"
    wait_until(lambda: ended in log.read_text(), "the rig to finish what nobody waits for", 60)
    system.isthmus("pipeline", "redrive", key)
    return world.wait_for_end(system, key)
