"""A job's executions on Step Functions: found, stopped, and started again under a name of their own."""

from __future__ import annotations

import json

import pytest

from isthmus.adapters.aws.events import StepFunctionsExecutions
from isthmus.adapters.aws.pipeline import StepFunctionsPipeline
from isthmus.adapters.aws.session import client
from isthmus.errors import Refused

KEY = "a" * 40
MACHINE = {"StartAt": "Wait", "States": {"Wait": {"Type": "Wait", "Seconds": 60, "End": True}}}


@pytest.fixture
def machine(aws: None) -> str:
    role = {"Version": "2012-10-17", "Statement": []}
    arn = client("iam").create_role(RoleName="machine", AssumeRolePolicyDocument=json.dumps(role))["Role"][
        "Arn"
    ]
    made = client("stepfunctions").create_state_machine(name="m", definition=json.dumps(MACHINE), roleArn=arn)
    return str(made["stateMachineArn"])


def test_a_job_that_never_started_is_not_there(machine: str) -> None:
    pipeline = StepFunctionsPipeline(machine)
    assert pipeline.state(KEY) == ("", [])
    for call in (pipeline.retry, pipeline.stop, pipeline.arn):
        with pytest.raises(Refused, match=f"there is no job {KEY}"):
            call(KEY)


def test_a_running_job_is_not_started_again_and_a_stopped_one_is(machine: str) -> None:
    pipeline = StepFunctionsPipeline(machine)
    StepFunctionsExecutions().start(machine, KEY, {"manifest_key": "m", "job_key": KEY})
    with pytest.raises(Refused, match="stop it first"):
        pipeline.retry(KEY)
    pipeline.stop(KEY)
    assert pipeline.state(KEY)[0] == "ABORTED"
    with pytest.raises(Refused, match="it ended ABORTED"):
        pipeline.stop(KEY)
    pipeline.retry(KEY)
    assert pipeline.arn(KEY).endswith(f":{KEY}-1")
    assert pipeline.state(KEY)[0] == "RUNNING"
    described = client("stepfunctions").describe_execution(executionArn=pipeline.arn(KEY))
    assert json.loads(described["input"]) == {"manifest_key": "m", "job_key": KEY}
