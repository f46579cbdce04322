"""Least privilege, from the calls that the other end-to-end tests made: it runs after them.

The local cloud decides on every call as IAM does and puts it on record. Here the record is compared with
the policies that stand in the deployed roles, both ways, and decided again without each permission.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from demo.stamp import ROOT
from demo.system import System
from tests.e2e import world
from tests.e2e.permissions import failures, policies, removals

pytestmark = pytest.mark.e2e

EXCEPTIONS: dict[tuple[str, str], str] = {
    (
        "DeployEdgeFunction",
        "kms:Sign",
    ): "2026-11: a release that devices had, and that is taken back, is made by no test here",
}
"""Granted and not seen here, by the holder of the policy and the action: since when, and why it stays."""


@pytest.fixture(scope="module")
def recorded(
    system: System, digits: Path, with_core_device: bool, tmp_path_factory: pytest.TempPathFactory
) -> System:
    """The system, once it has also made the calls that only a failure makes."""
    if not with_core_device:
        pytest.skip("the record of decisions is the local cloud's")
    if not failures.taken(system, "Core", "s3:GetObject"):
        pytest.fail("nothing was deployed yet: run this together with test_path_of_a_dataset.py")
    failures.send_to_dead_letters(system)
    assert failures.stop_a_rollout(system, tmp_path_factory.mktemp("stopped"))["state"] == "ABORTED"
    ended = failures.redrive_what_the_rig_finished(system, digits, tmp_path_factory.mktemp("redriven"))
    assert ended["state"] == "REJECTED", ended
    return system


@pytest.fixture(scope="module")
def audit(recorded: System, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, str]]]:
    """What ``isthmus_localcloud.iam.replay`` says; identities by their holders in the template."""
    names = policies.identities(recorded)
    granted = {names[holder]: policies.documents(recorded, holder) for holder in names}
    file = tmp_path_factory.mktemp("audit") / "policies.json"
    file.write_text(json.dumps(granted))
    command = [ROOT / "localcloud/.venv/bin/python", "-m", "isthmus_localcloud.iam.replay"]
    done = subprocess.run(
        [*map(str, command), *map(str, (failures.record_file(recorded), file, removals.file(recorded)))],
        capture_output=True,
        text=True,
        check=True,
    )
    holders = {name: holder for holder, name in names.items()}
    found: dict[str, list[dict[str, str]]] = json.loads(done.stdout)
    return {
        # A service that delivers something has no policy, and goes by its own name.
        kind: [{**entry, "identity": holders.get(entry["identity"], entry["identity"])} for entry in entries]
        for kind, entries in found.items()
    }


def pairs(entries: list[dict[str, str]]) -> set[tuple[str, str]]:
    return {(entry["identity"], entry["action"]) for entry in entries}


def test_nothing_was_refused(audit: dict[str, list[dict[str, str]]]) -> None:
    assert audit["refused"] == []


def test_every_permission_was_used(audit: dict[str, list[dict[str, str]]]) -> None:
    unused = pairs(audit["unused"])
    assert unused - set(EXCEPTIONS) == set(), "take it from template.yaml, or make the test need it"
    assert set(EXCEPTIONS) - unused == set(), "it is used after all"


def test_without_any_one_permission_a_call_would_be_refused(audit: dict[str, list[dict[str, str]]]) -> None:
    assert pairs(audit["needless"]) == set()


def test_a_function_says_which_permission_it_lacks(recorded: System, tmp_path: Path) -> None:
    with policies.without(recorded, "PackageModelFunction", "kms:Sign"):
        ended = world.wait_for_end(recorded, failures.import_model(recorded, tmp_path, "unsigned"))
    _says(ended, "PermissionMissing", recorded, "PackageModelFunction", "kms:Sign")


def test_a_state_machine_says_which_permission_it_lacks(
    recorded: System, digits: Path, tmp_path: Path
) -> None:
    job = world.write_job(tmp_path, hyperparameters={"epochs": 1, "learning-rate": 0.0011})
    with policies.without(recorded, "TrainAndDeployMachine", "sqs:SendMessage"):
        ended = world.wait_for_end(recorded, recorded.push(digits, job, "digits"))
    _says(ended, "PermissionMissing", recorded, "TrainAndDeployMachine", "sqs:SendMessage")


def test_a_rig_says_which_permission_it_lacks(recorded: System, digits: Path, tmp_path: Path) -> None:
    job = world.write_job(tmp_path, hyperparameters={"epochs": 1, "learning-rate": 0.0012})
    with policies.without(recorded, "Rig", "s3:PutObject"):
        ended = world.wait_for_end(recorded, recorded.push(digits, job, "digits"))
    _says(ended, "TrainingFailed", recorded, "Rig", "s3:PutObject")


def _says(ended: dict[str, Any], error: str, system: System, holder: str, action: str) -> None:
    assert (ended["state"], ended["error"]) == ("FAILED", error), ended
    who = policies.identities(system)[holder]
    assert f"{who} may not {action} on arn:aws:" in ended["cause"], ended["cause"]
    assert f"add {action} to its policy in template.yaml and run `sam deploy`" in ended["cause"]
