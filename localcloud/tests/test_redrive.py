"""RedriveExecution: an execution goes on from the state that did not succeed, and repeats nothing."""

import datetime
import json
from typing import Any

import pytest
from botocore.exceptions import ClientError
from conftest import ROLE, Cloud, task, wait_for

# Fails until a parameter exists, and counts its calls in another's version.
SOURCE = """
import boto3
ssm = boto3.client("ssm")
class NotMended(Exception): pass
def handler(event, context):
    ssm.put_parameter(Name=f"/calls/{event['name']}", Value="x", Type="String", Overwrite=True)
    try:
        return {"value": ssm.get_parameter(Name=f"/mended/{event['name']}")["Parameter"]["Value"]}
    except ssm.exceptions.ParameterNotFound:
        raise NotMended(event["name"]) from None
"""


@pytest.fixture(scope="module")
def worker(cloud: Cloud) -> str:
    return cloud.function("redriven", SOURCE)


@pytest.fixture(scope="module")
def bus(cloud: Cloud) -> str:
    """A queue that hears every change of an execution's status; its URL."""
    sqs, events = cloud.client("sqs"), cloud.client("events")
    url = str(sqs.create_queue(QueueName="statuses")["QueueUrl"])
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    allow = {"Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "sqs:SendMessage"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [{**allow, "Resource": arn}]})
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
    pattern = {"source": ["aws.states"], "detail": {"redriveCount": [{"numeric": [">", 0]}]}}
    events.put_rule(Name="statuses", EventPattern=json.dumps(pattern))
    events.put_targets(Rule="statuses", Targets=[{"Id": "queue", "Arn": arn}])
    return url


def mend(cloud: Cloud, name: str) -> None:
    cloud.client("ssm").put_parameter(Name=f"/mended/{name}", Value=name, Type="String")


def calls(cloud: Cloud, name: str) -> int:
    return int(cloud.client("ssm").get_parameter(Name=f"/calls/{name}")["Parameter"]["Version"])


def step(function: str, name: str, **more: Any) -> dict[str, Any]:
    return {
        "Type": "Task",
        "Resource": "arn:aws:states:::lambda:invoke",
        "Parameters": {"FunctionName": function, "Payload": {"name": name}},
        "ResultSelector": {"value.$": "$.Payload.value"},
        "ResultPath": f"$.{name}",
        **more,
    }


def redriven(cloud: Cloud, arn: str, **more: Any) -> dict[str, Any]:
    """Redrive an execution and describe it at its end."""
    client = cloud.client("stepfunctions")
    client.redrive_execution(executionArn=arn, **more)
    return wait_for(lambda: _ended(client, arn), 60)


def _ended(client: Any, arn: str) -> dict[str, Any] | None:
    found: dict[str, Any] = client.describe_execution(executionArn=arn)
    return found if found["status"] != "RUNNING" else None


def history(cloud: Cloud, arn: str) -> list[dict[str, Any]]:
    pages = cloud.client("stepfunctions").get_paginator("get_execution_history").paginate(executionArn=arn)
    return [event for page in pages for event in page["events"]]


def entered(cloud: Cloud, arn: str) -> list[str]:
    events = history(cloud, arn)
    return [
        event["stateEnteredEventDetails"]["name"] for event in events if "stateEnteredEventDetails" in event
    ]


def refused(call: Any, **arguments: Any) -> dict[str, Any]:
    with pytest.raises(ClientError) as error:
        call(**arguments)
    return dict(error.value.response["Error"])


def test_it_goes_on_where_it_failed_and_repeats_nothing(cloud: Cloud, worker: str, bus: str) -> None:
    states = {
        "First": step(worker, "one", Next="Second"),
        "Second": step(
            worker,
            "two",
            Next="Third",
            Retry=[{"ErrorEquals": ["NotMended"], "MaxAttempts": 1, "IntervalSeconds": 1}],
        ),
        "Third": step(worker, "three", Next="Count"),
        "Count": {
            "Type": "Pass",
            "Parameters": {
                "one.$": "$.one.value",
                "redrives.$": "$$.Execution.RedriveCount",
                "at.$": "$$.Execution.RedriveTime",
            },
            "End": True,
        },
    }
    mend(cloud, "one")
    failed = cloud.execute({"StartAt": "First", "States": states})
    assert (failed["status"], failed["error"]) == ("FAILED", "NotMended")
    assert (failed["redriveCount"], failed["redriveStatus"]) == (0, "REDRIVABLE")
    mend(cloud, "two")
    again = redriven(cloud, failed["executionArn"])
    assert (again["status"], again["error"], again["redriveCount"]) == ("FAILED", "NotMended", 1)
    mend(cloud, "three")
    done = redriven(cloud, failed["executionArn"])
    output = json.loads(done["output"])
    assert (done["status"], output["one"], output["redrives"]) == ("SUCCEEDED", "one", 2)
    told = datetime.datetime.fromisoformat(output["at"])
    assert told.timestamp() == pytest.approx(done["redriveDate"].timestamp(), abs=0.01)
    assert "error" not in done and "cause" not in done
    # A retry's count starts anew at a redrive: two calls before it, one after.
    assert (calls(cloud, "one"), calls(cloud, "two"), calls(cloud, "three")) == (1, 3, 2)
    _history_goes_on(cloud, failed["executionArn"])
    _bus_heard(cloud, bus, failed["executionArn"])
    _not_twice(cloud, failed["executionArn"])


def _history_goes_on(cloud: Cloud, arn: str) -> None:
    events = history(cloud, arn)
    assert [event["id"] for event in events] == list(range(1, len(events) + 1))
    assert entered(cloud, arn) == ["First", "Second", "Second", "Third", "Third", "Count"]
    told = [
        event["executionRedrivenEventDetails"] for event in events if event["type"] == "ExecutionRedriven"
    ]
    assert told == [{"redriveCount": 1}, {"redriveCount": 2}]
    assert [event["type"] for event in events].count("ExecutionFailed") == 2


def _bus_heard(cloud: Cloud, bus: str, arn: str) -> None:
    heard: list[tuple[int, str]] = []

    def all_four() -> bool:
        answer = cloud.client("sqs").receive_message(QueueUrl=bus, WaitTimeSeconds=1, MaxNumberOfMessages=10)
        for message in answer.get("Messages", []):
            detail = json.loads(message["Body"])["detail"]
            if detail["executionArn"] == arn:
                heard.append((detail["redriveCount"], detail["status"]))
                began = cloud.client("stepfunctions").describe_execution(executionArn=arn)["startDate"]
                assert detail["startDate"] == int(began.timestamp() * 1000), "milliseconds, as on AWS"
        return len(heard) >= 4

    wait_for(all_four)
    assert sorted(heard) == [(1, "FAILED"), (1, "RUNNING"), (2, "RUNNING"), (2, "SUCCEEDED")]


def _not_twice(cloud: Cloud, arn: str) -> None:
    client = cloud.client("stepfunctions")
    error = refused(client.redrive_execution, executionArn=arn)
    assert error["Code"] == "ExecutionNotRedrivable"
    assert "Execution is SUCCEEDED and cannot be redriven" in error["Message"]


def test_what_cannot_be_redriven_is_refused(cloud: Cloud) -> None:
    client = cloud.client("stepfunctions")
    machine = {"StartAt": "Wait", "States": {"Wait": {"Type": "Wait", "Seconds": 60, "End": True}}}

    def while_running(arn: str) -> None:
        error = refused(client.redrive_execution, executionArn=arn)
        assert error["Code"] == "ExecutionNotRedrivable"
        assert client.describe_execution(executionArn=arn)["redriveStatus"] == "NOT_REDRIVABLE"
        client.stop_execution(executionArn=arn)

    stopped = cloud.execute(machine, {}, while_running)
    assert (stopped["status"], stopped["redriveStatus"]) == ("ABORTED", "REDRIVABLE")
    missing = refused(client.redrive_execution, executionArn=stopped["executionArn"] + "x")
    assert missing["Code"] == "ExecutionDoesNotExist"


def test_the_same_client_token_redrives_once(cloud: Cloud) -> None:
    client = cloud.client("stepfunctions")
    failed = cloud.execute({"StartAt": "Bad", "States": {"Bad": {"Type": "Fail", "Error": "Bad"}}})
    arn = failed["executionArn"]
    again = redriven(cloud, arn, clientToken="a")
    # A Fail state is entered again, and fails again.
    assert (again["error"], entered(cloud, arn)) == ("Bad", ["Bad", "Bad"])
    first = client.redrive_execution(executionArn=arn, clientToken="a")["redriveDate"]
    assert first == again["redriveDate"]
    assert client.describe_execution(executionArn=arn)["redriveCount"] == 1
    assert redriven(cloud, arn, clientToken="b")["redriveCount"] == 2


def test_a_stopped_execution_goes_on_in_the_state_in_which_it_was_stopped(cloud: Cloud) -> None:
    states = {
        "Before": {"Type": "Pass", "Result": {"seconds": 60}, "Next": "Wait"},
        "Wait": {"Type": "Wait", "TimestampPath": "$$.Execution.StartTime", "Next": "Pause"},
        "Pause": {"Type": "Wait", "SecondsPath": "$.seconds", "Next": "After"},
        "After": {"Type": "Pass", "End": True},
    }
    client = cloud.client("stepfunctions")

    def stop(arn: str) -> None:
        wait_for(lambda: "Pause" in entered(cloud, arn))
        client.stop_execution(executionArn=arn, error="Enough", cause="by hand")

    stopped = cloud.execute({"StartAt": "Before", "States": states}, {}, stop)
    arn = stopped["executionArn"]
    assert stopped["status"] == "ABORTED"
    client.redrive_execution(executionArn=arn)
    wait_for(lambda: entered(cloud, arn).count("Pause") == 2)
    stop_again = client.describe_execution(executionArn=arn)
    assert (stop_again["status"], stop_again["redriveCount"]) == ("RUNNING", 1)
    client.stop_execution(executionArn=arn)
    wait_for(lambda: _ended(client, arn))
    assert entered(cloud, arn) == ["Before", "Wait", "Pause", "Pause"]


def test_an_answer_to_a_token_from_before_is_told_that_nobody_waits(cloud: Cloud) -> None:
    """It is still a token of that state machine: who may answer its tasks gets this, not a refusal."""
    client = cloud.client("stepfunctions")
    url = cloud.client("sqs").create_queue(QueueName="tokens-of-before")["QueueUrl"]
    body = {"token.$": "$$.Task.Token"}
    waits = task("sqs:sendMessage.waitForTaskToken", {"QueueUrl": url, "MessageBody": body}, TimeoutSeconds=1)
    failed = cloud.execute(waits)
    assert failed["error"] == "States.Timeout"
    message = cloud.client("sqs").receive_message(QueueUrl=url)["Messages"][0]
    client.redrive_execution(executionArn=failed["executionArn"])
    wait_for(lambda: entered(cloud, failed["executionArn"]) == ["A", "A"])
    token = json.loads(message["Body"])["token"]
    assert refused(client.send_task_success, taskToken=token, output="{}")["Code"] == "TaskDoesNotExist"


def parent_of(cloud: Cloud, name: str, child: dict[str, Any], **more: Any) -> dict[str, Any]:
    made = cloud.client("stepfunctions").create_state_machine(
        name=name, definition=json.dumps(child), roleArn=ROLE
    )
    parameters = {"StateMachineArn": made["stateMachineArn"], **more}
    return task("states:startExecution.sync:2", parameters, ResultSelector={"output.$": "$.Output"})


def child_names(cloud: Cloud, parent: dict[str, Any]) -> dict[str, str]:
    arn = parent["States"]["A"]["Parameters"]["StateMachineArn"]
    listed = cloud.client("stepfunctions").list_executions(stateMachineArn=arn)["executions"]
    return {entry["name"]: entry["status"] for entry in listed}


def test_a_nested_execution_is_started_anew(cloud: Cloud, worker: str) -> None:
    child = {"StartAt": "Only", "States": {"Only": step(worker, "nested", End=True)}}
    name = {"Name.$": "States.Format('child-{}', $$.Execution.RedriveCount)"}
    parent = parent_of(cloud, "redriven-child", child, **name)
    failed = cloud.execute(parent)
    assert failed["error"] == "States.TaskFailed"
    assert json.loads(failed["cause"])["Error"] == "NotMended"
    mend(cloud, "nested")
    done = redriven(cloud, failed["executionArn"])
    assert done["status"] == "SUCCEEDED", done
    assert child_names(cloud, parent) == {"child-0": "FAILED", "child-1": "SUCCEEDED"}


def test_a_name_that_was_used_is_refused_to_the_redrive(cloud: Cloud) -> None:
    child = {"StartAt": "Bad", "States": {"Bad": {"Type": "Fail", "Error": "Bad"}}}
    parent = parent_of(cloud, "same-name", child, Name="same")
    failed = cloud.execute(parent)
    again = redriven(cloud, failed["executionArn"])
    assert again["error"].startswith("StepFunctions.ExecutionAlreadyExists")


def test_a_nested_execution_is_stopped_with_its_parent(cloud: Cloud) -> None:
    child = {"StartAt": "Wait", "States": {"Wait": {"Type": "Wait", "Seconds": 600, "End": True}}}
    parent = parent_of(cloud, "stopped-child", child, Name="held")

    def stop(arn: str) -> None:
        wait_for(lambda: child_names(cloud, parent) == {"held": "RUNNING"})
        wait_for(lambda: "TaskSubmitted" in [event["type"] for event in history(cloud, arn)])
        cloud.client("stepfunctions").stop_execution(executionArn=arn)

    assert cloud.execute(parent, {}, stop)["status"] == "ABORTED"
    wait_for(lambda: child_names(cloud, parent) == {"held": "ABORTED"})
