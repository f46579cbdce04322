"""Step Functions' limits: data between states, task tokens, names, parameters of tasks."""

import json
import zlib
from typing import Any

import pytest
from botocore.exceptions import ClientError
from conftest import ROLE, Cloud, task, wait_for
from test_refusals import outcome

from isthmus_localcloud.refusals import limits

LIMIT = limits.STATE_DATA.value
NOTHING = {"StartAt": "A", "States": {"A": {"Type": "Pass", "End": True}}}


def text(size: int) -> str:
    """A JSON string whose text has that size."""
    return "x" * (size - 2)


@pytest.fixture(scope="module")
def machine(cloud: Cloud) -> str:
    made = cloud.client("stepfunctions").create_state_machine(
        name="nothing", definition=json.dumps(NOTHING), roleArn=ROLE
    )
    return str(made["stateMachineArn"])


@pytest.mark.parametrize(("letter", "size", "passes"), [("x", LIMIT, True), ("x", LIMIT + 1, False)])
def test_input_of_an_execution(cloud: Cloud, machine: str, letter: str, size: int, passes: bool) -> None:
    assert outcome(
        cloud.client("stepfunctions").start_execution, stateMachineArn=machine, input=json.dumps(text(size))
    ) == (None if passes else (400, "ValidationException"))


def test_bytes_count_and_not_characters(cloud: Cloud, machine: str) -> None:
    with pytest.raises(ClientError) as caught:
        cloud.client("stepfunctions").start_execution(
            stateMachineArn=machine, input=json.dumps("é" * 131_072, ensure_ascii=False)
        )
    assert caught.value.response["Error"]["Message"] == (
        "1 validation error detected: Value at 'input' failed to satisfy constraint: Member must have size "
        "less than or equal to 262144 bytes in UTF-8 encoding"
    )


def letters_of(size: int, letter: str) -> str:
    """A text of that many bytes."""
    width = len(letter.encode())
    return letter * (size // width) + "x" * (size % width)


@pytest.mark.parametrize(("size", "passes"), [(LIMIT, True), (LIMIT + 1, False)])
@pytest.mark.parametrize("letter", ["x", "é"])
def test_output_of_a_state(cloud: Cloud, letter: str, size: int, passes: bool) -> None:
    """A Pass repeats what it gets eight times, so that a small input becomes a large output."""
    left = size - len('["","","","","","","","",""]')
    event = {"text": letters_of(left // 8, letter), "rest": "x" * (left % 8)}
    repeated = {"value.$": f"States.Array({'$.text, ' * 8}$.rest)"}
    state = {"Type": "Pass", "Parameters": repeated, "OutputPath": "$.value", "End": True}
    found = cloud.execute({"StartAt": "A", "States": {"A": state}}, event)
    if passes:
        assert json.loads(found["output"]) == [event["text"]] * 8 + [event["rest"]]
    else:
        assert (found["status"], found["error"]) == ("FAILED", "States.DataLimitExceeded")


def compact(text: str) -> str:
    return json.dumps(json.loads(text), separators=(",", ":"))


def caught_by(definition: dict[str, Any], *errors: str) -> dict[str, Any]:
    definition["States"]["A"]["Catch"] = [{"ErrorEquals": list(errors), "Next": "Caught"}]
    definition["States"]["Caught"] = {"Type": "Pass", "Result": "caught", "End": True}
    return definition


@pytest.fixture(scope="module")
def letters(cloud: Cloud) -> str:
    return cloud.function("letters", "def handler(e, c): return 'a' * e['n']\n")


@pytest.fixture(scope="module")
def items(cloud: Cloud) -> str:
    cloud.client("dynamodb").create_table(
        TableName="items",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    return "items"


@pytest.mark.parametrize(("size", "passes"), [(LIMIT, True), (LIMIT + 1, False)])
def test_result_of_a_task(cloud: Cloud, items: str, size: int, passes: bool) -> None:
    """``dynamodb:getItem`` brings a whole item back; what is around its text is measured first."""
    table, key = cloud.client("dynamodb"), {"id": {"S": "one"}}
    definition = task("aws-sdk:dynamodb:getItem", {"TableName": items, "Key": key})
    table.put_item(TableName=items, Item={**key, "text": {"S": "x"}})
    around = len(compact(cloud.execute(definition)["output"])) - 1
    table.put_item(TableName=items, Item={**key, "text": {"S": "x" * (size - around)}})
    found = cloud.execute(definition)
    expected = ("SUCCEEDED", None) if passes else ("FAILED", "States.DataLimitExceeded")
    assert (found["status"], found.get("error")) == expected


@pytest.mark.parametrize("error", ["States.DataLimitExceeded", "States.ALL"])
def test_only_its_own_name_catches_the_limit(cloud: Cloud, letters: str, error: str) -> None:
    """States.ALL does not: on AWS this error ends the execution."""
    parameters = {"FunctionName": letters, "Payload": {"n": LIMIT}}
    found = cloud.execute(caught_by(task("lambda:invoke", parameters), error))
    assert found["status"] == ("FAILED" if error == "States.ALL" else "SUCCEEDED")


@pytest.mark.parametrize(("size", "passes"), [(LIMIT, True), (LIMIT + 1, False)])
def test_input_of_a_task(cloud: Cloud, size: int, passes: bool) -> None:
    """After Parameters; what the execution was given is smaller by the queue's address."""
    queue = cloud.client("sqs").create_queue(QueueName="inputs")["QueueUrl"]
    frame = {"MessageBody": {"a": "", "b": ""}, "QueueUrl": queue}
    left = size - len(json.dumps(frame, separators=(",", ":")))
    body = {"a.$": "$.a", "b.$": "$.b"}
    event = {"a": "x" * (left // 2), "b": "x" * (left - left // 2)}
    definition = task("sqs:sendMessage", {"QueueUrl": queue, "MessageBody": body})
    found = cloud.execute(definition, event)
    expected = ("SUCCEEDED", None) if passes else ("FAILED", "States.DataLimitExceeded")
    assert (found["status"], found.get("error")) == expected


@pytest.fixture(scope="module")
def queue(cloud: Cloud) -> str:
    return str(cloud.client("sqs").create_queue(QueueName="limits")["QueueUrl"])


def token_from(cloud: Cloud, queue: str) -> str:
    sqs = cloud.client("sqs")
    found = wait_for(lambda: sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=1).get("Messages"))
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=found[0]["ReceiptHandle"])
    return str(json.loads(found[0]["Body"])["token"])


def callback(queue: str) -> dict[str, Any]:
    body = {"token.$": "$$.Task.Token"}
    return task("sqs:sendMessage.waitForTaskToken", {"QueueUrl": queue, "MessageBody": body})


@pytest.mark.parametrize(("size", "passes"), [(limits.TASK_TOKEN.value, True), (2_049, False)])
@pytest.mark.parametrize("verb", ["send_task_success", "send_task_failure", "send_task_heartbeat"])
def test_task_tokens(cloud: Cloud, queue: str, verb: str, size: int, passes: bool) -> None:
    """A real token has the greatest length that AWS allows; one character more is refused at once."""
    states, more = cloud.client("stepfunctions"), {"output": "1"} if verb == "send_task_success" else {}
    definition = {**callback(queue)}
    definition["States"]["A"]["HeartbeatSeconds"] = 30

    def work(_: str) -> None:
        token = token_from(cloud, queue)
        assert len(token) == limits.TASK_TOKEN.value
        answered = outcome(getattr(states, verb), taskToken=token.ljust(size, "x"), **more)
        assert answered == (None if passes else (400, "InvalidToken"))
        if not passes or verb == "send_task_heartbeat":
            states.send_task_success(taskToken=token, output="1")

    failed = passes and verb == "send_task_failure"
    assert cloud.execute(definition, {}, work)["status"] == ("FAILED" if failed else "SUCCEEDED")


@pytest.mark.parametrize(("size", "passes"), [(LIMIT, True), (LIMIT + 1, False)])
def test_output_of_a_callback(cloud: Cloud, queue: str, size: int, passes: bool) -> None:
    """Refused where it is sent; the task then still waits for one that fits."""
    states = cloud.client("stepfunctions")

    def work(_: str) -> None:
        token = token_from(cloud, queue)
        assert outcome(states.send_task_success, taskToken=token, output=json.dumps(text(size))) == (
            None if passes else (400, "ValidationException")
        )
        if not passes:
            states.send_task_success(taskToken=token, output='"fits"')

    found = cloud.execute(callback(queue), {}, work)
    assert json.loads(found["output"]) == (text(size) if passes else "fits")


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("n" * limits.EXECUTION_NAME.value, None),
        ("n" * 81, "ValidationException"),
        ("with space", "InvalidName"),
        ("a:b", "InvalidName"),
    ],
)
def test_names_of_executions(cloud: Cloud, machine: str, name: str, error: str | None) -> None:
    assert outcome(cloud.client("stepfunctions").start_execution, stateMachineArn=machine, name=name) == (
        (400, error) if error else None
    )


def test_the_name_of_an_ended_execution_stays_taken(cloud: Cloud, machine: str) -> None:
    states = cloud.client("stepfunctions")
    started = states.start_execution(stateMachineArn=machine, name="once", input="{}")
    started_one = {"executionArn": started["executionArn"]}
    wait_for(lambda: states.describe_execution(**started_one)["status"] == "SUCCEEDED")
    assert outcome(states.start_execution, stateMachineArn=machine, name="once", input="{}") == (
        400,
        "ExecutionAlreadyExists",
    )


@pytest.mark.parametrize(
    ("resource", "parameters", "unknown"),
    [
        ("aws-sdk:ssm:getParameter", {"Name": "/x"}, None),
        ("aws-sdk:ssm:getParameter", {"Name": "/x", "Decrypt": True}, "Decrypt"),
        ("aws-sdk:ssm:getParameter", {"name.$": "$.x"}, "name"),
        ("sqs:sendMessage", {"QueueUrl": "q", "MessageBody": {"anything": 1}}, None),
        ("sqs:sendMessage", {"QueueUrl": "q", "MessageBody": "x", "Body": "x"}, "Body"),
        ("lambda:invoke", {"FunctionName": "f", "Payload": {"free": {"Form": 1}}}, None),
        (
            "lambda:invoke.waitForTaskToken",
            {"FunctionName": "f", "TaskToken.$": "$$.Task.Token"},
            "TaskToken",
        ),
        ("dynamodb:putItem", {"TableName": "t", "Item": {"any": {"S.$": "$.x"}}}, None),
        ("dynamodb:putItem", {"TableName": "t", "Item": {"any": {"Text": "x"}}}, "Text"),
        ("sagemaker:createTrainingJob.sync", {"ResourceConfig": {"InstanceKind": "x"}}, "InstanceKind"),
        ("states:startExecution.sync:2", {"StateMachineArn": "x", "Input": {"free": 1}}, None),
    ],
)
def test_parameters_in_a_definition(
    cloud: Cloud, resource: str, parameters: dict[str, Any], unknown: str | None
) -> None:
    """Inside a Map, to show that nested states are read as well."""
    inner = task(resource, parameters)
    outer = {"Type": "Map", "ItemProcessor": {"ProcessorConfig": {"Mode": "INLINE"}, **inner}, "End": True}
    definition = json.dumps({"StartAt": "M", "States": {"M": outer}})
    states = cloud.client("stepfunctions")
    name = f"d{zlib.crc32(definition.encode())}"
    request = {"name": name, "definition": definition, "roleArn": ROLE}
    if unknown is None:
        assert outcome(states.create_state_machine, **request) is None
        return
    with pytest.raises(states.exceptions.InvalidDefinition) as caught:
        states.create_state_machine(**request)
    assert caught.value.response["Error"]["Message"] == (
        f'Invalid State Machine Definition: \'SCHEMA_VALIDATION_FAILED: The field "{unknown}" is not '
        "supported by Step Functions at /States/M/ItemProcessor/States/A/Parameters'"
    )


@pytest.mark.parametrize(("name", "passes"), [("DataType", True), ("Datatype", False)])
def test_parameters_that_come_with_the_input(cloud: Cloud, queue: str, name: str, passes: bool) -> None:
    """What a path brings is seen when the state runs: States.Runtime, which States.ALL does not catch."""
    parameters = {"QueueUrl": queue, "MessageBody": "x", "MessageAttributes.$": "$.attributes"}
    attributes = {"a": {name: "String", "StringValue": "b"}}
    definition = caught_by(task("sqs:sendMessage", parameters), "States.ALL")
    found = cloud.execute(definition, {"attributes": attributes})
    if passes:
        assert found["status"] == "SUCCEEDED" and json.loads(found["output"]) != "caught"
    else:
        assert (found["status"], found["error"]) == ("FAILED", "States.Runtime")
        assert found["cause"].endswith(
            'could not be used to start the Task: [The field "Datatype" is not supported by Step Functions]'
        )
