"""Parameters of tasks against botocore's models: the services of today's machines and of tomorrow's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from checks.findings import CheckError
from checks.machines import Machine, load_machines
from checks.operations import operation
from checks.samples import FOLDER
from checks.task_parameters import check, check_machine, task_faults
from isthmus.workflows.deploy_edge import EdgeDeployment, EdgeProgress
from isthmus.workflows.evaluate_model import Verdict
from isthmus.workflows.package_model import Packaged
from isthmus.workflows.plan_training import Planned
from tests.checks.planting import ROOT

PREFIX = "arn:aws:states:::"
TRAINING: dict[str, Any] = {
    "TrainingJobName": "digits-1",
    "AlgorithmSpecification": {
        "TrainingImage": "123456789012.dkr.ecr.eu-west-1.amazonaws.com/mxnet:1.9.0",
        "TrainingInputMode": "File",
    },
    "RoleArn": "arn:aws:iam::123456789012:role/training",
    "OutputDataConfig": {"S3OutputPath": "s3://bucket/jobs/"},
    "ResourceConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.xlarge", "VolumeSizeInGB": 30},
    "StoppingCondition": {"MaxRuntimeInSeconds": 3600, "MaxWaitTimeInSeconds": 3600},
    "EnableManagedSpotTraining": True,
    "HyperParameters": {"epochs": "3"},
}
SOUND: dict[str, dict[str, Any]] = {
    "sagemaker:createTrainingJob.sync": TRAINING,
    "aws-sdk:sagemaker:describeTrainingJob": {"TrainingJobName": "digits-1"},
    "sqs:sendMessage.waitForTaskToken": {"QueueUrl": "https://q", "MessageBody": {"token": "t"}},
    "states:startExecution.sync:2": {
        "StateMachineArn": "arn:aws:states:eu-west-1:123456789012:stateMachine:m",
        "Input": {"any": ["thing"]},
    },
    "lambda:invoke": {"FunctionName": "f", "Payload": {"any": 1}},
    "dynamodb:updateItem": {
        "TableName": "t",
        "Key": {"pk": {"S": "JOB#1"}, "sk": {"S": "LEASE"}},
        "UpdateExpression": "SET done = :done",
        "ExpressionAttributeValues": {":done": {"BOOL": True}},
    },
    "aws-sdk:greengrassv2:createDeployment": {
        "TargetArn": "arn:aws:iot:eu-west-1:123456789012:thinggroup/cores",
        "Components": {"isthmus.model": {"ComponentVersion": "1.0.0"}},
    },
    "aws-sdk:eventbridge:putEvents": {"Entries": [{"Source": "s", "DetailType": "d", "Detail": "{}"}]},
    "aws-sdk:sfn:sendTaskSuccess": {"TaskToken": "t", "Output": "{}"},
    "events:putEvents": {"Entries": [{"Source": "s", "DetailType": "d", "Detail": "{}"}]},
}
FAULTY: list[tuple[str, dict[str, Any], str]] = [
    ("sagemaker:createTrainingJob.sync", {"TrainingJobName": "under_score"}, "does not match"),
    ("sagemaker:createTrainingJob.sync", {"TrainingJobName": "a" * 64}, "64, at most 63"),
    ("sagemaker:createTrainingJob.sync", {"HyperParameters": {"epochs": 3}}, "HyperParameters.epochs"),
    ("sagemaker:createTrainingJob.sync", {"Enviroment": {}}, 'Unknown parameter in input: "Enviroment"'),
    ("sagemaker:createTrainingJob.sync", {"RoleArn": None}, "RoleArn"),
    (
        "sagemaker:createTrainingJob.sync",
        {"ResourceConfig": {"InstanceCount": 1, "InstanceType": "ml.none", "VolumeSizeInGB": 30}},
        "'ml.none' is none of",
    ),
    (
        "sagemaker:createTrainingJob.sync",
        {"ResourceConfig": {"InstanceCount": True, "InstanceType": "ml.m5.xlarge", "VolumeSizeInGB": 30}},
        "ResourceConfig.InstanceCount, value: True",
    ),
    (
        "sagemaker:createTrainingJob.sync",
        {"StoppingCondition": {"MaxRuntimeInSeconds": 0}},
        "Invalid value for parameter StoppingCondition.MaxRuntimeInSeconds",
    ),
    ("dynamodb:updateItem", {"Key": {"pk": "JOB#1"}}, "Invalid type for parameter Key.pk"),
    ("dynamodb:updateItem", {"ExpressionAttributeValues": {":n": {"N": 1}}}, "ExpressionAttributeValues.:n.N"),
    ("aws-sdk:greengrassv2:createDeployment", {"targetArn": "x"}, "targetArn (not PascalCase)"),
    ("aws-sdk:greengrassv2:createDeployment", {"Components": {"c": {"Version": "1"}}}, '"Version"'),
    ("aws-sdk:sfn:sendTaskSuccess", {"Output": {"a": 1}}, "Invalid type for parameter output"),
    ("sqs:sendMessage.waitForTaskToken", {"MessageGroupID": "g"}, '"MessageGroupID"'),
    ("lambda:invoke", {"InvocationType": "Sometimes"}, "'Sometimes' is none of"),
]  # fmt: skip


def faults(resource: str, parameters: dict[str, Any]) -> list[str]:
    called = operation(PREFIX + resource)
    assert called
    return list(task_faults(called, parameters))


@pytest.mark.parametrize("resource", SOUND)
def test_sound_parameters_pass(resource: str) -> None:
    assert faults(resource, SOUND[resource]) == []


@pytest.mark.parametrize(("resource", "planted", "expected"), FAULTY)
def test_a_planted_parameter_is_named(resource: str, planted: dict[str, Any], expected: str) -> None:
    found = faults(resource, {**SOUND[resource], **planted})
    assert any(expected in fault for fault in found), found


def test_a_required_parameter_is_missed() -> None:
    without = {key: value for key, value in TRAINING.items() if key != "RoleArn"}
    assert faults("sagemaker:createTrainingJob.sync", without) == [
        'Missing required parameter in input: "RoleArn"'
    ]


@pytest.mark.parametrize(
    ("resource", "said"),
    [
        ("aws-sdk:nosuch:doThing", "botocore knows no service nosuch"),
        ("aws-sdk:sagemaker:createTrainingJobs", "sagemaker has no operation CreateTrainingJobs"),
        ("aws-sdk:sagemaker:createTrainingJob.sync", "has no .sync"),
        ("sqs:receiveMessage", "is no optimized integration"),
        ("dynamodb:getItem.waitForTaskToken", "has no .waitForTaskToken"),
        ("lambda:invoke.sync", "has no .sync"),
        ("sqs", "is no service integration"),
    ],
)
def test_what_is_no_integration_is_refused(resource: str, said: str) -> None:
    with pytest.raises(CheckError, match=said):
        operation(PREFIX + resource)


def test_a_functions_own_arn_has_no_model() -> None:
    assert operation("arn:aws:lambda:eu-west-1:123456789012:function:f") is None


# --------------------------------------------------------------------------------------- machines


def one_task(**fields: Any) -> Machine:
    state = {
        "Type": "Task",
        "Resource": PREFIX + "lambda:invoke",
        "Parameters": {"FunctionName": "f"},
        **fields,
    }
    return Machine("m", Path("m.asl.json"), {"StartAt": "Work", "States": {"Work": state}})


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    given = {"plan": {"deadline": 100, "heartbeat": 30, "late": 100, "text": "30"}, "key": "k"}
    (tmp_path / "m.json").write_text(json.dumps({"input": given, "states": {"Inner": {"item": 1}}}))
    return tmp_path


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"TimeoutSecondsPath": "$.plan.deadline", "HeartbeatSecondsPath": "$.plan.heartbeat"}, []),
        (
            {"TimeoutSecondsPath": "$.plan.deadline", "HeartbeatSecondsPath": "$.plan.late"},
            ["m.Work: HeartbeatSeconds (100) must be less than TimeoutSeconds (100) on the sample"],
        ),
        (
            {"TimeoutSeconds": 20, "HeartbeatSecondsPath": "$.plan.heartbeat"},
            ["m.Work: HeartbeatSeconds (30) must be less than TimeoutSeconds (20) on the sample"],
        ),
        (
            {"TimeoutSecondsPath": "$.plan.text"},
            ["m.Work: TimeoutSeconds is '30' on the sample, but must be a whole number from 1 to 99999999"],
        ),
        (
            {"TimeoutSecondsPath": "$.plan.none"},
            ["m.Work: reads $.plan.none, which the sample input does not have"],
        ),
        (
            {"Parameters": {"FunctionName": "f", "Payload": {"key.$": "$.kee"}}},
            ["m.Work: reads $.kee, which the sample input does not have"],
        ),
        (
            {"Parameters": {"FunctionName": "f", "Payload": {"key.$": "$$.Execution.Nmae"}}},
            ["m.Work: reads $$.Execution.Nmae, which the context object does not have"],
        ),
        ({"InputPath": "$.plan", "Parameters": {"FunctionName": "f", "Payload": {"x.$": "$.deadline"}}}, []),
        (
            {"QueryLanguage": "JSONata", "Arguments": {}},
            ["m.Work: is in JSONata; this check reads JSONPath only: write Parameters"],
        ),
    ],
)  # fmt: skip
def test_a_task_is_judged_on_its_sample(samples: Path, fields: dict[str, Any], expected: list[str]) -> None:
    assert [str(finding) for finding in check_machine(one_task(**fields), samples)] == expected


def test_a_state_inside_a_map_has_a_sample_of_its_own(samples: Path) -> None:
    inner = one_task(Parameters={"FunctionName": "f", "Payload": {"x.$": "$.item"}}).definition
    inner = {"StartAt": "Inner", "States": {"Inner": inner["States"]["Work"]}}
    outer = {"StartAt": "Each", "States": {"Each": {"Type": "Map", "ItemProcessor": inner}}}
    assert check_machine(Machine("m", Path("m.asl.json"), outer), samples) == []


def test_a_machine_without_a_sample_is_told_what_to_add(tmp_path: Path) -> None:
    (finding,) = check_machine(one_task(), tmp_path)
    assert finding.what == "there is no sample input for m: add checks/samples/m.json"


def test_the_machines_that_ship_are_sound_and_every_one_has_a_sample() -> None:
    assert check(ROOT) == []
    assert {path.stem for path in FOLDER.glob("*.json")} == {machine.name for machine in load_machines(ROOT)}


RESULTS = {
    "plan": Planned,
    "evaluation": Verdict,
    "packaged": Packaged,
    "edge": EdgeDeployment,
    "edge_progress": EdgeProgress,
}


@pytest.mark.parametrize("name", RESULTS)
def test_a_sample_is_what_the_function_returns(name: str) -> None:
    """A sample that had what no function returns would hide a path that selects nothing."""
    sample = json.loads((FOLDER / "train_and_deploy.json").read_text())["input"][name]["value"]
    assert set(sample) <= set(RESULTS[name].__struct_fields__)
