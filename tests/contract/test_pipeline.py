"""A job's executions on Step Functions: found, stopped, and started again under a name of their own."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.stub import ANY, Stubber

from isthmus.adapters.aws.events import StepFunctionsExecutions
from isthmus.adapters.aws.executions import StepFunctionsHistories
from isthmus.adapters.aws.pipeline import StepFunctionsPipeline
from isthmus.adapters.aws.session import client
from isthmus.errors import NotRedrivable, Refused

KEY = "a" * 40
MACHINE_ARN = "arn:aws:states:eu-west-1:123456789012:stateMachine:m"
MACHINE = {"StartAt": "Wait", "States": {"Wait": {"Type": "Wait", "Seconds": 60, "End": True}}}


@pytest.fixture
def machine(aws: None) -> str:
    role = {"Version": "2012-10-17", "Statement": []}
    arn = client("iam").create_role(RoleName="machine", AssumeRolePolicyDocument=json.dumps(role))["Role"][
        "Arn"
    ]
    made = client("stepfunctions").create_state_machine(name="m", definition=json.dumps(MACHINE), roleArn=arn)
    return str(made["stateMachineArn"])


def status(pipeline: StepFunctionsPipeline) -> str:
    found = pipeline.run(KEY)
    assert found is not None
    return found.status


def test_a_job_that_never_started_is_not_there(machine: str) -> None:
    pipeline = StepFunctionsPipeline(machine)
    assert pipeline.run(KEY) is None
    for call in (pipeline.retry, pipeline.redrive, pipeline.arn):
        with pytest.raises(Refused, match=f"there is no job {KEY}"):
            call(KEY)
    with pytest.raises(Refused, match=f"there is no job {KEY}"):
        pipeline.stop(KEY, "enough")


def test_a_running_job_is_not_started_again_and_a_stopped_one_is(machine: str) -> None:
    pipeline = StepFunctionsPipeline(machine)
    StepFunctionsExecutions().start(machine, KEY, {"manifest_key": "m", "job_key": KEY})
    with pytest.raises(Refused, match="stop it first"):
        pipeline.retry(KEY)
    pipeline.stop(KEY, "enough")
    assert status(pipeline) == "ABORTED"
    with pytest.raises(Refused, match="it ended ABORTED"):
        pipeline.stop(KEY, "enough")
    pipeline.retry(KEY)
    assert pipeline.arn(KEY).endswith(f":{KEY}-1")
    assert status(pipeline) == "RUNNING"
    described = client("stepfunctions").describe_execution(executionArn=pipeline.arn(KEY))
    assert json.loads(described["input"]) == {"manifest_key": "m", "job_key": KEY}


@pytest.fixture
def answers(aws: None) -> Iterator[Stubber]:
    with Stubber(client("stepfunctions")) as stubber:
        yield stubber


def described(status: str, **more: Any) -> dict[str, Any]:
    began = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
    arn = f"arn:aws:states:eu-west-1:123456789012:execution:m:{KEY}"
    return {
        "executionArn": arn,
        "stateMachineArn": MACHINE_ARN,
        "name": KEY,
        "status": status,
        "startDate": began,
        **more,
    }


def find(answers: Stubber, found: dict[str, Any]) -> None:
    """The newest execution is the last that exists."""
    answers.add_response("describe_execution", found, {"executionArn": found["executionArn"]})
    missing = {"executionArn": found["executionArn"] + "-1"}
    answers.add_client_error("describe_execution", "ExecutionDoesNotExist", expected_params=missing)


def test_a_redrive_is_asked_for_once_with_a_token(answers: Stubber) -> None:
    failed = described("FAILED", redriveCount=0)
    find(answers, failed)
    request = {"executionArn": failed["executionArn"], "clientToken": ANY}
    answers.add_response("redrive_execution", {"redriveDate": failed["startDate"]}, request)
    StepFunctionsPipeline(MACHINE_ARN).redrive(KEY)
    answers.assert_no_pending_responses()


def test_what_step_functions_will_not_redrive_is_not_redrivable(answers: Stubber) -> None:
    find(answers, described("SUCCEEDED"))
    answers.add_client_error("redrive_execution", "ExecutionNotRedrivable", "Execution is SUCCEEDED")
    with pytest.raises(NotRedrivable, match="Execution is SUCCEEDED"):
        StepFunctionsPipeline(MACHINE_ARN).redrive(KEY)


def test_a_run_tells_of_its_redrives(answers: Stubber) -> None:
    later = datetime.datetime(2026, 1, 3, tzinfo=datetime.UTC)
    more = {"redriveCount": 2, "redriveDate": later, "stopDate": later, "redriveStatus": "NOT_REDRIVABLE"}
    failed = described("FAILED", error="Boom", cause="why", redriveStatusReason="too old", **more)
    find(answers, failed)
    answers.add_response("describe_execution", failed)
    answers.add_response("get_execution_history", {"events": []})
    run = StepFunctionsPipeline(MACHINE_ARN).run(KEY)
    assert run is not None
    assert (run.redrives, run.redriven_at, run.ended_at) == (2, later.timestamp(), later.timestamp())
    assert (run.error, run.cause, run.not_redrivable, run.state) == ("Boom", "why", "too old", "")


def test_the_ending_is_read_from_the_newest_events(answers: Stubber) -> None:
    at = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
    said = {"executionFailedEventDetails": {"error": "States.Timeout"}}
    events = [
        {"timestamp": at, "type": "ExecutionFailed", "id": 9, "previousEventId": 8, **said},
        {
            "timestamp": at,
            "type": "TaskStateEntered",
            "id": 7,
            "stateEnteredEventDetails": {"name": "WaitForRig"},
        },
    ]
    request = {"executionArn": "arn:e", "reverseOrder": True, "maxResults": 100}
    answers.add_response("get_execution_history", {"events": events, "nextToken": "more"}, request)
    ending = StepFunctionsHistories().ending("arn:e")
    assert (ending.state, ending.error, ending.cause) == ("WaitForRig", "States.Timeout", "")
