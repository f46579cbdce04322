"""Models that wait until somebody lets them into service: approved, rejected, and forgotten."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from demo.identities import answers
from demo.system import OPERATORS, CommandFailed, System, run, wait_until
from tests.e2e import breakage, world
from tests.e2e.cleanup import client

pytestmark = pytest.mark.e2e

MODEL = "waiting"
SOON_DAYS = 12 / 86400
"""Longer than it takes to ask."""


def bring(system: System, folder: Path, weight: float) -> str:
    """Bring ``y [n, 2] = weight * sum(x [n, 3])`` on its way; return the job's key."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "sums",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(np.full((3, 2), weight, np.float32), "w")],
    )
    path = folder / f"{weight}.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return str(json.loads(system.isthmus("model", "import", path, "--name", MODEL, "--json"))["job_key"])


@pytest.fixture(scope="module")
def approver(system: System) -> Iterator[dict[str, str]]:
    """The environment of a user who has ApproverPolicy and nothing else."""
    iam, name = client(system, "iam"), f"{system.stack}-approver"
    policy = world.outputs(system)["ApproverPolicy"]
    iam.create_user(UserName=name)
    iam.attach_user_policy(UserName=name, PolicyArn=policy)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    keys = {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}
    endpoint_url = system.env.get("AWS_ENDPOINT_URL")
    wait_until(lambda: answers(keys, endpoint_url), "the approver's key to work", 60)
    others = {name: value for name, value in system.env.items() if name not in OPERATORS}
    yield {**others, **keys}
    iam.delete_access_key(UserName=name, AccessKeyId=key["AccessKeyId"])
    iam.detach_user_policy(UserName=name, PolicyArn=policy)
    iam.delete_user(UserName=name)


@pytest.fixture
def asking(system: System) -> Iterator[Callable[[float], None]]:
    """Make the stack what ``ManualApproval=required`` makes it, with so many ``ApprovalDays``: a call changes them."""
    mends: list[breakage.Mend] = []

    def ask(days: float) -> None:
        wanted = {"ISTHMUS_MANUAL_APPROVAL": "required", "ISTHMUS_APPROVAL_DAYS": str(days)}
        mends.append(
            breakage.environment(system, "RegisterModelFunction", lambda variables: variables | wanted)
        )

    yield ask
    for mend in reversed(mends):
        mend()


def approve(system: System, approver: dict[str, str], job_key: str, *more: str) -> Any:
    command = [system.bin / "isthmus", "pipeline", "approve", job_key, *more, "--json"]
    return json.loads(run(command, approver))


def status_in_registry(system: System, release: int) -> tuple[str, str]:
    sagemaker = client(system, "sagemaker")
    found = sagemaker.list_model_packages(ModelPackageGroupName=world.outputs(system)["ModelGroup"])
    arn = next(
        entry["ModelPackageArn"]
        for entry in found["ModelPackageSummaryList"]
        if entry.get("ModelPackageDescription") == f"{MODEL} release {release}"
    )
    package = sagemaker.describe_model_package(ModelPackageName=arn)
    return package["ModelApprovalStatus"], package.get("ApprovalDescription", "")


def asked(system: System, job_key: str) -> None:
    """Wait until a job waits for its answer."""
    wait_until(lambda: (system.job(job_key)["approval"] or {}).get("state") == "WAITING", "the question", 120)


def test_a_model_waits_for_approval_and_goes_into_service_or_the_champion_stays(
    system: System, approver: dict[str, str], asking: Callable[[float], None], tmp_path: Path
) -> None:
    asking(7)
    first = bring(system, tmp_path, 1.0)
    asked(system, first)
    command = f"isthmus pipeline approve {first}"
    for said in (system.isthmus("pipeline", "list"), system.isthmus("pipeline", "show", first)):
        assert command in said
    assert status_in_registry(system, 1)[0] == "PendingManualApproval"
    assert "DeployCloud" not in world.steps_of(system.job(first))
    answered = approve(system, approver, first, "--reason", "as discussed")
    arn, user = answered["by"], f"{system.stack}-approver"
    assert (answered["state"], answered["release"], arn.rpartition("/")[2]) == ("APPROVED", 1, user)

    world.wait_for_step(system, first, "DeployEdge")
    second = bring(system, tmp_path, 2.0)
    asked(system, second)
    asking(SOON_DAYS)
    third = bring(system, tmp_path, 3.0)
    approve(system, approver, second, "--reject", "--reason", "doubled")

    ended = world.wait_for_end(system, first)
    assert (ended["state"], ended["approval"]["by"], ended["approval"]["reason"]) == (
        "DEPLOYED",
        arn,
        "as discussed",
    )
    assert status_in_registry(system, 1)[0] == "Approved"
    with pytest.raises(CommandFailed, match=f"it was approved by {re.escape(arn)}"):
        approve(system, approver, first)
    ended = world.wait_for_end(system, second)
    assert (ended["state"], ended["error"], ended["approval"]["reason"]) == ("REJECTED", "", "doubled")
    assert ended["approval"]["champion_release"] == 1
    status, why = status_in_registry(system, 2)
    assert (status, why.endswith(": doubled")) == ("Rejected", True)
    ended = world.wait_for_end(system, third)
    assert (ended["state"], ended["error"], ended["approval"]["state"]) == ("REJECTED", "", "EXPIRED"), ended
    assert world.champion(system, MODEL)["release"] == 1
    table, kept = world.outputs(system)["Table"], client(system, "dynamodb")
    for key in (first, second, third):
        place = {"pk": {"S": "APPROVALS"}, "sk": {"S": key}}
        assert kept.get_item(TableName=table, Key=place)["Item"]["token"] == {"S": ""}
