"""Our own rules for state machines, one planted fault each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from checks.asl import SERVICE_ERRORS, check, check_machine
from checks.findings import CheckError
from checks.machines import Machine, load_machines
from tests.checks.planting import ROOT, copy_tree, edit

LAMBDA = "arn:aws:states:::lambda:invoke"


def machine() -> dict[str, Any]:
    """A sound machine: one task, then a Map over a nested one."""
    retry = [{"ErrorEquals": ["Lambda.ServiceException"], "BackoffRate": 2}]
    task = {"Type": "Task", "Resource": LAMBDA, "TimeoutSeconds": 60, "Retry": retry}
    return {
        "StartAt": "Work",
        "States": {
            "Work": {**task, "Parameters": {"FunctionName": "f"}, "Next": "Each"},
            "Each": {
                "Type": "Map",
                "ItemProcessor": {"StartAt": "Inner", "States": {"Inner": {**task, "End": True}}},
                "End": True,
            },
        },
    }


def findings(definition: dict[str, Any]) -> list[str]:
    return [str(finding) for finding in check_machine(Machine("m", Path("m.asl.json"), definition))]


def waits_without_token(states: dict[str, Any]) -> None:
    states["Work"]["Resource"] = LAMBDA + ".waitForTaskToken"


def loop_that_nothing_leads_to(states: dict[str, Any]) -> None:
    states["Left"] = {"Type": "Pass", "Next": "Right"}
    states["Right"] = {"Type": "Pass", "Next": "Left"}


PLANTED: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (lambda states: states["Work"].update(Next="Nowhere"), 'm: No state found named "Nowhere"'),
    (lambda states: states["Work"].update(HeartbeatSeconds=60), "m.Work: HeartbeatSeconds (60) must be less"),
    (lambda states: states["Work"].update(HeartbeatSeconds=61), "m.Work: HeartbeatSeconds (61) must be less"),
    (
        lambda states: (states["Work"].pop("TimeoutSeconds"), states["Work"].update(HeartbeatSeconds=5)),
        "m.Work: a heartbeat needs a timeout",
    ),
    (lambda states: states["Work"].pop("TimeoutSeconds"), "m.Work: needs TimeoutSeconds or"),
    (
        lambda states: states["Each"]["ItemProcessor"]["States"]["Inner"].pop("TimeoutSeconds"),
        "m.Inner: needs TimeoutSeconds or",
    ),
    (lambda states: states["Work"].pop("Retry"), "m.Work: needs a Retry"),
    (waits_without_token, "m.Work: waits for a task token"),
    (lambda states: states["Work"]["Retry"][0].update(ErrorEquals=["NoSuchError"]), "m.Work: handles NoSuchError"),
    (
        lambda states: states["Work"]["Retry"][0].update(ErrorEquals=["States.Timeuot"]),
        "m.Work: handles States.Timeuot",
    ),
    (
        lambda states: states["Work"]["Retry"][0].update(ErrorEquals=["Lambda.TooManyRequestException"]),
        "m.Work: handles Lambda.TooManyRequestException",
    ),
    (
        lambda states: states["Work"].update(Catch=[{"ErrorEquals": ["SQS.SdkClientExeption"], "Next": "Each"}]),
        "m.Work: handles SQS.SdkClientExeption",
    ),
    (loop_that_nothing_leads_to, "m.Left: no way leads here from StartAt"),
]  # fmt: skip


def test_a_sound_machine_has_no_fault() -> None:
    assert findings(machine()) == []


def test_a_heartbeat_below_the_timeout_is_sound() -> None:
    definition = machine()
    definition["States"]["Work"]["HeartbeatSeconds"] = 59
    assert findings(definition) == []


@pytest.mark.parametrize(("plant", "expected"), PLANTED, ids=[name for _, name in PLANTED])
def test_a_planted_fault_is_named(plant: Callable[[dict[str, Any]], object], expected: str) -> None:
    definition = machine()
    plant(definition["States"])
    found = findings(definition)
    assert any(finding.startswith(expected) for finding in found), found


@pytest.mark.parametrize("error", ["AttemptLost", "States.Timeout", "Lambda.TooManyRequestsException"])
def test_an_error_of_ours_of_the_language_or_of_a_service_is_known(error: str) -> None:
    definition = machine()
    definition["States"]["Work"]["Retry"][0]["ErrorEquals"] = [error]
    assert findings(definition) == []


def test_no_error_of_a_service_is_listed_that_no_machine_handles() -> None:
    handled = {
        error
        for machine in load_machines(ROOT)
        for _, state in machine.states()
        for handler in (*state.get("Retry", []), *state.get("Catch", []))
        for error in handler["ErrorEquals"]
    }
    assert handled >= SERVICE_ERRORS


def test_a_definition_needs_every_substitution(tmp_path: Path) -> None:
    folder = copy_tree(tmp_path)
    path = folder / "statemachines/deploy_cloud.asl.json"
    path.write_text(path.read_text().replace("${DeployCloud}", "${Planted}"))
    with pytest.raises(CheckError, match="Planted"):
        load_machines(folder)


def test_a_definition_that_is_no_json_is_named(tmp_path: Path) -> None:
    folder = copy_tree(tmp_path)
    (folder / "statemachines/deploy_cloud.asl.json").write_text("{")
    with pytest.raises(CheckError, match=r"deploy_cloud\.asl\.json is no JSON"):
        check(folder)


def test_a_substitution_is_an_arn_of_its_resource() -> None:
    pipeline = next(machine for machine in load_machines(ROOT) if machine.name == "train_and_deploy")
    states = dict(pipeline.states())
    function = states["RegisterDataset"]["Parameters"]["FunctionName"]
    assert function == "arn:aws:lambda:eu-west-1:123456789012:function:isthmus-RegisterDatasetFunction"
    nested = states["DeployCloud"]["Parameters"]["StateMachineArn"]
    assert nested == "arn:aws:states:eu-west-1:123456789012:stateMachine:isthmus-DeployCloudMachine"


def test_edits_reach_the_check(tmp_path: Path) -> None:
    folder = copy_tree(tmp_path)
    edit(folder / "statemachines/deploy_cloud.asl.json", lambda machine: machine.update(StartAt="Nowhere"))
    assert any("Nowhere" in finding.what for finding in check(folder))
