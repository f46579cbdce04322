"""Each command of `make check` finds a fault planted in a copy, and passes on what is there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.checks.planting import append, command, copy_tree, edit, insert, run

Plant = Callable[[Path], object]


def in_state(state: str, change: Callable[[dict[str, Any]], object]) -> Plant:
    def plant(folder: Path) -> None:
        path = folder / "statemachines/train_and_deploy.asl.json"
        edit(path, lambda machine: change(machine["States"][state]))

    return plant


def in_resources(text: str) -> Plant:
    return lambda folder: insert(folder / "template.yaml", "\nOutputs:\n", "\n" + text)


PUBLIC_BUCKET = """  PlantedBucket:
    Type: AWS::S3::Bucket
    Properties: { AccessControl: PublicRead }
"""
WRONG_PROPERTY = """  PlantedTopic:
    Type: AWS::SNS::Topic
    Properties: { TopicNmae: planted }
"""
UNTRACED_FUNCTION = """  PlantedFunction:
    Type: AWS::Lambda::Function
    Properties:
      Runtime: python3.13
      Handler: app.handler
      Role: !Sub "arn:${AWS::Partition}:iam::${AWS::AccountId}:role/planted"
      Code: { S3Bucket: planted, S3Key: planted.zip }
      MemorySize: 512
      Timeout: 10
"""
NO_HANDLER = """  PlantedFunction:
    Type: AWS::Serverless::Function
    Properties: { CodeUri: functions/ }
"""

OWN_CHECKS = "-m checks "
CHECKOV = "--config-file checks/checkov.yaml"
FAULTS: dict[str, list[tuple[Plant, str]]] = {
    OWN_CHECKS: [
        (in_state("KeepEdgeWait", lambda state: state.update(Next="Nowhere")), 'No state found named "Nowhere"'),
        (
            in_state("EvaluateModel", lambda state: state.update(HeartbeatSeconds=900)),
            "EvaluateModel: HeartbeatSeconds (900) must be less than TimeoutSeconds (900)",
        ),
        (
            in_state("WaitForRig", lambda state: state["Parameters"].update(MessageBodyy="x")),
            'Unknown parameter in input: "MessageBodyy"',
        ),
        (
            in_state("WaitForRig", lambda state: state["Parameters"].update(DelaySeconds="5")),
            "Invalid type for parameter DelaySeconds, value: 5, type: <class 'str'>",
        ),
        (
            in_state("DeployCloud", lambda state: state["Parameters"].update(StateMachineArn="a" * 300)),
            "StateMachineArn: 300, at most 256",
        ),
        (
            in_state("PlanTraining", lambda state: state["Parameters"].update(FunctionName="not a name")),
            "FunctionName: 'not a name' does not match",
        ),
        (
            in_state("PackageModel", lambda state: state["Retry"][0].update(ErrorEquals=["States.Timeuot"])),
            "PackageModel: handles States.Timeuot",
        ),
        (
            in_state("KeepRound", lambda state: state.update(InputPath="$.plan.value.rig")),
            "KeepRound: reads $.plan.value.rig, which the sample input does not have on every way from StartAt",
        ),
        (lambda folder: append(folder / "layers/core/requirements.txt", "planted==1.0\n"), "planted==1.0 has no"),
    ],
    "cfn-lint template.yaml": [
        (in_resources(WRONG_PROPERTY), "E3002 Additional properties are not allowed ('TopicNmae' was unexpected"),
        (in_resources(UNTRACED_FUNCTION), "WS1000 Lambda function PlantedFunction should have Tracing"),
    ],
    "sam validate": [(in_resources(NO_HANDLER), "PlantedFunction")],
    CHECKOV: [
        (in_resources(PUBLIC_BUCKET), "CKV_AWS_20"),
        (lambda folder: None, "AWS::S3::Bucket.PlantedBucket"),
    ],
    "lint-imports": [
        (
            lambda folder: append(folder / "src/isthmus/planning/placement.py", "\nimport boto3\n"),
            "isthmus.planning.placement -> boto3",
        ),
    ],
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("mark", FAULTS)
def test_a_command_names_each_planted_fault(mark: str, tmp_path: Path) -> None:
    folder = copy_tree(tmp_path)
    for plant, _ in FAULTS[mark]:
        plant(folder)
    status, said = run(mark, folder)
    assert status != 0, said
    for _, name in FAULTS[mark]:
        assert name in said, said


@pytest.mark.slow
@pytest.mark.parametrize("mark", FAULTS)
def test_a_command_passes_on_what_is_there(mark: str, tmp_path: Path) -> None:
    status, said = run(mark, copy_tree(tmp_path))
    assert status == 0, said


def test_checkov_asks_nobody() -> None:
    assert command(CHECKOV).startswith("CKV_SKIP_PACKAGE_UPDATE_CHECK=true ")
