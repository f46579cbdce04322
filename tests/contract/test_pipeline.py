"""A job's executions on Step Functions: found, stopped, and started again under a name of their own."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.stub import ANY, Stubber

from isthmus.adapters.aws.executions import StepFunctionsHistories
from isthmus.adapters.aws.machines import StepFunctionsExecutions
from isthmus.adapters.aws.pipeline import StepFunctionsPipeline
from isthmus.adapters.aws.session import client
from isthmus.errors import NotRedrivable, Refused, Unavailable

KEY = "a" * 40
MACHINE_ARN = "arn:aws:states:eu-west-1:123456789012:stateMachine:m"
EXECUTION_ARN = "arn:aws:states:eu-west-1:123456789012:execution:m"
BEGAN = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
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
    name = more.get("name", KEY)
    return {
        "executionArn": f"{EXECUTION_ARN}:{name}",
        "stateMachineArn": MACHINE_ARN,
        "name": name,
        "status": status,
        "startDate": BEGAN,
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


def retry_of(number: int, *, days: int) -> dict[str, Any]:
    """Retry ``number`` of the job, begun so many days after the first execution could have."""
    began = BEGAN + datetime.timedelta(days=days)
    name = f"{KEY}-{number}" if number else KEY
    return described("FAILED", name=name, startDate=began, input=json.dumps({"days": days}))


def gone(answers: Stubber, name: str) -> None:
    missing = {"executionArn": f"{EXECUTION_ARN}:{name}"}
    answers.add_client_error("describe_execution", "ExecutionDoesNotExist", expected_params=missing)


def there(answers: Stubber, *found: dict[str, Any]) -> None:
    for entry in found:
        answers.add_response("describe_execution", entry, {"executionArn": entry["executionArn"]})


def listed(answers: Stubber, *found: dict[str, Any]) -> None:
    wanted = ("executionArn", "stateMachineArn", "name", "status", "startDate")
    entries = [{name: entry[name] for name in wanted} for entry in found]
    answers.add_response(
        "list_executions", {"executions": entries}, {"stateMachineArn": MACHINE_ARN, "maxResults": 1000}
    )


def started(answers: Stubber, name: str, source: dict[str, Any]) -> None:
    request = {"stateMachineArn": MACHINE_ARN, "name": name, "input": source["input"]}
    answers.add_response("start_execution", {"executionArn": "arn:e", "startDate": BEGAN}, request)


def test_a_retry_is_found_when_the_first_names_are_gone(answers: Stubber) -> None:
    """Step Functions forgets an execution 90 days after its end; retries go on to be there."""
    older, newer = retry_of(2, days=30), retry_of(3, days=40)
    gone(answers, KEY)
    listed(answers, described("RUNNING", name="b" * 40), newer, older)
    there(answers, newer, older)
    started(answers, f"{KEY}-4", newer)
    StepFunctionsPipeline(MACHINE_ARN).retry(KEY)
    answers.assert_no_pending_responses()


def test_the_newest_is_the_one_that_began_last_whatever_its_number(answers: Stubber) -> None:
    """The first name is free again after 90 days, while a retry of then is still known."""
    again, older = retry_of(0, days=91), retry_of(1, days=60)
    there(answers, again, older)
    gone(answers, f"{KEY}-2")
    pipeline = StepFunctionsPipeline(MACHINE_ARN)
    assert pipeline.arn(KEY) == again["executionArn"]
    there(answers, again, older)
    gone(answers, f"{KEY}-2")
    started(answers, f"{KEY}-2", again)
    pipeline.retry(KEY)
    answers.assert_no_pending_responses()


@pytest.mark.parametrize("call", ["run", "arn", "retry", "redrive", "nested", "state"])
def test_trouble_that_may_pass_is_unavailable(answers: Stubber, call: str) -> None:
    operation = "get_execution_history" if call == "state" else "describe_execution"
    answers.add_client_error(operation, "ThrottlingException", "Rate exceeded")
    with pytest.raises(Unavailable, match="Rate exceeded"):
        getattr(StepFunctionsPipeline(MACHINE_ARN), call)("arn:e" if call in ("nested", "state") else KEY)


def test_trouble_in_a_list_is_unavailable(answers: Stubber) -> None:
    answers.add_client_error("list_executions", "ThrottlingException", "Rate exceeded")
    with pytest.raises(Unavailable):
        list(StepFunctionsPipeline(MACHINE_ARN).recent())


def entered(number: int, state: str) -> dict[str, Any]:
    return {
        "timestamp": BEGAN,
        "type": "TaskStateEntered",
        "id": number,
        "previousEventId": number - 1,
        "stateEnteredEventDetails": {"name": state},
    }


def test_each_look_reads_only_the_events_that_are_new(answers: Stubber) -> None:
    pipeline, running = StepFunctionsPipeline(MACHINE_ARN), described("RUNNING")
    history = [entered(number, f"S{number}") for number in (1, 2, 3, 4)]
    whole = {"executionArn": running["executionArn"], "reverseOrder": False}
    newest = {"executionArn": running["executionArn"], "reverseOrder": True, "maxResults": 100}
    seen = []
    for request, answer in (
        (whole, {"events": history[:2]}),
        (newest, {"events": history[1::-1], "nextToken": "older events"}),
        (newest, {"events": history[3:0:-1], "nextToken": "older events"}),
    ):
        there(answers, running)
        answers.add_response("get_execution_history", answer, request)
        seen.append([visit.state for visit in pipeline.nested(running["executionArn"]).visits])
    assert seen == [["S1", "S2"], ["S1", "S2"], ["S1", "S2", "S3", "S4"]]
    answers.assert_no_pending_responses()
