"""Step Functions: every integration that isthmus uses, and its failures."""

import json
from typing import Any

import pytest
from conftest import ROLE, Cloud, task, wait_for


@pytest.fixture(scope="module")
def queue(cloud: Cloud) -> str:
    return str(cloud.client("sqs").create_queue(QueueName="tokens")["QueueUrl"])


def token_task(queue: str, **more: Any) -> dict[str, Any]:
    body = {"token.$": "$$.Task.Token", "job.$": "$.job"}
    return task("sqs:sendMessage.waitForTaskToken", {"QueueUrl": queue, "MessageBody": body}, **more)


def receive(cloud: Cloud, queue: str) -> dict[str, Any]:
    sqs = cloud.client("sqs")
    found = wait_for(lambda: sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=1).get("Messages"))
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=found[0]["ReceiptHandle"])
    body: dict[str, Any] = json.loads(found[0]["Body"])
    return body


def test_a_token_from_a_queue_lives_on_heartbeats(cloud: Cloud, queue: str) -> None:
    def work(_: str) -> None:
        token = receive(cloud, queue)["token"]
        cloud.client("stepfunctions").send_task_heartbeat(taskToken=token)
        cloud.client("stepfunctions").send_task_success(taskToken=token, output='{"done": 1}')

    found = cloud.execute(token_task(queue, HeartbeatSeconds=10), {"job": "a"}, work)
    assert json.loads(found["output"]) == {"done": 1}


def test_a_token_takes_heartbeats_before_the_call_that_gives_it_out_has_returned(cloud: Cloud) -> None:
    source = """
import boto3

def handler(event, context):
    boto3.client("stepfunctions").send_task_heartbeat(taskToken=event["token"])
    boto3.client("stepfunctions").send_task_success(taskToken=event["token"], output='"beaten"')
"""
    function = cloud.function("early-heartbeat", source)
    payload = {"FunctionName": function, "Payload": {"token.$": "$$.Task.Token"}}
    found = cloud.execute(task("lambda:invoke.waitForTaskToken", payload, HeartbeatSeconds=10), {})
    assert found["status"] == "SUCCEEDED", found
    assert json.loads(found["output"]) == "beaten"


def test_a_token_can_fail_with_its_own_error(cloud: Cloud, queue: str) -> None:
    def work(_: str) -> None:
        token = receive(cloud, queue)["token"]
        cloud.client("stepfunctions").send_task_failure(taskToken=token, error="RigLost", cause="no power")

    found = cloud.execute(token_task(queue), {"job": "a"}, work)
    assert (found["status"], found["error"], found["cause"]) == ("FAILED", "RigLost", "no power")


@pytest.mark.parametrize(
    "limit",
    [
        {"HeartbeatSecondsPath": "$.limit", "TimeoutSeconds": 60},
        {"TimeoutSecondsPath": "$.limit"},
        {"TimeoutSeconds": 1},
    ],
)
def test_silence_times_the_task_out(cloud: Cloud, queue: str, limit: dict[str, Any]) -> None:
    catch = [{"ErrorEquals": ["States.Timeout"], "Next": "Lost"}]
    machine = token_task(queue, Catch=catch, **limit)
    machine["States"]["Lost"] = {"Type": "Pass", "Result": "lost", "End": True}
    found = cloud.execute(machine, {"job": "a", "limit": 1})
    receive(cloud, queue)
    assert json.loads(found["output"]) == "lost"


@pytest.mark.parametrize(
    ("limit", "error"),
    [
        ({"HeartbeatSeconds": 1, "TimeoutSeconds": 60}, "States.HeartbeatTimeout"),
        ({"HeartbeatSeconds": 1, "TimeoutSeconds": 20}, "States.HeartbeatTimeout"),
        ({"TimeoutSeconds": 1}, "States.Timeout"),
    ],
)
def test_silence_and_lateness_have_names(cloud: Cloud, queue: str, limit: dict[str, Any], error: str) -> None:
    catch = [{"ErrorEquals": ["States.HeartbeatTimeout"], "Next": "Silent"}]
    machine = token_task(queue, Catch=catch, **limit)
    machine["States"]["Silent"] = {"Type": "Pass", "OutputPath": "$.Error", "End": True}
    found = cloud.execute(machine, {"job": "a"})
    receive(cloud, queue)
    caught = error == "States.HeartbeatTimeout"
    expected = ("SUCCEEDED", f'"{error}"', None) if caught else ("FAILED", None, error)
    assert (found["status"], found.get("output"), found.get("error")) == expected


@pytest.mark.parametrize("limit", [{"HeartbeatSeconds": 50, "TimeoutSeconds": 60}, {"TimeoutSeconds": 60}])
def test_a_stop_aborts_at_once_while_a_token_is_waited_for(
    cloud: Cloud, queue: str, limit: dict[str, Any]
) -> None:
    states = cloud.client("stepfunctions")

    def work(execution: str) -> None:
        receive(cloud, queue)
        states.stop_execution(executionArn=execution, error="Enough", cause="by hand")

    definition = token_task(queue, **limit)
    start = definition["StartAt"]
    definition["States"][start]["Catch"] = [{"ErrorEquals": ["States.ALL"], "Next": "Caught"}]
    definition["States"]["Caught"] = {"Type": "Pass", "End": True}
    found = cloud.execute(definition, {"job": "a"}, work)
    assert found["status"] == "ABORTED"
    events = states.get_execution_history(executionArn=found["executionArn"])["events"]
    entered = [
        event["stateEnteredEventDetails"]["name"] for event in events if "stateEnteredEventDetails" in event
    ]
    assert entered == [start]
    assert not [event["type"] for event in events if event["type"].endswith(("TimedOut", "Failed"))]


def test_a_lambda_can_hold_a_token(cloud: Cloud) -> None:
    source = (
        "import boto3\ndef handler(e, c):\n"
        "    boto3.client('stepfunctions').send_task_success(taskToken=e['t'], output='5')\n"
    )
    arn = cloud.function("holder", source)
    found = cloud.execute(
        task("lambda:invoke.waitForTaskToken", {"FunctionName": arn, "Payload": {"t.$": "$$.Task.Token"}})
    )
    assert found["output"] == "5"


def test_a_lambda_error_is_caught_by_its_type(cloud: Cloud) -> None:
    arn = cloud.function(
        "raiser", "class QuotaError(Exception): pass\ndef handler(e, c): raise QuotaError('full')\n"
    )
    found = cloud.execute(task("lambda:invoke", {"FunctionName": arn}))
    assert found["error"] == "QuotaError" and json.loads(found["cause"])["errorMessage"] == "full"


def test_a_child_execution(cloud: Cloud) -> None:
    child = {"StartAt": "A", "States": {"A": {"Type": "Pass", "Result": {"c": 1}, "End": True}}}
    made = cloud.client("stepfunctions").create_state_machine(
        name="child", definition=json.dumps(child), roleArn=ROLE
    )
    found = cloud.execute(task("states:startExecution.sync:2", {"StateMachineArn": made["stateMachineArn"]}))
    assert json.loads(found["output"])["Output"] == {"c": 1}


def test_services_without_a_function(cloud: Cloud) -> None:
    cloud.client("dynamodb").create_table(
        TableName="t",
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
    )
    item = {
        "TableName": "t",
        "Item": {"id": {"S.$": "$.id"}},
        "ConditionExpression": "attribute_not_exists(id)",
    }
    assert cloud.execute(task("dynamodb:putItem", item), {"id": "z"})["status"] == "SUCCEEDED"
    second = cloud.execute(task("dynamodb:putItem", item), {"id": "z"})
    assert second["error"] == "DynamoDB.ConditionalCheckFailedException"
    entry = {"Source": "x", "DetailType": "y", "Detail": {"a": 1}, "EventBusName": "default"}
    assert cloud.execute(task("events:putEvents", {"Entries": [entry]}))["status"] == "SUCCEEDED"
    listed = cloud.execute(task("aws-sdk:greengrassv2:listComponents", {}))
    assert "Components" in json.loads(listed["output"])


def test_sdk_errors_are_named_as_aws_names_them(cloud: Cloud) -> None:
    found = cloud.execute(task("aws-sdk:ssm:getParameter", {"Name": "/nothing"}))
    assert found["error"] == "Ssm.ParameterNotFoundException"


def test_jsonata(cloud: Cloud) -> None:
    state = {"Type": "Pass", "Output": "{% $sum($states.input.v) %}", "End": True}
    found = cloud.execute(
        {"QueryLanguage": "JSONata", "StartAt": "A", "States": {"A": state}}, {"v": [1, 2, 3]}
    )
    assert found["output"] == "6"
