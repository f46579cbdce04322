"""Functions behave as on AWS: paths, environment, errors, warm reuse, concurrency, versions, aliases."""

import base64
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from conftest import Cloud, wait_for, zipped

SOURCE = """
import os, sys, time, boto3, word
class Boom(Exception): pass
CALLS = []
def handler(event, context):
    event = event or {}
    CALLS.append(1)
    print("hello from", context.function_name)
    if "fail" in event: raise Boom(event["fail"])
    if "sleep" in event: time.sleep(event["sleep"])
    if "exit" in event: os._exit(event["exit"])
    if "kill" in event: os.kill(os.getpid(), event["kill"])
    if "big" in event: return "x" * event["big"]
    open("/tmp/mine", "w").write("x")
    return {"path": sys.path, "env": dict(os.environ), "word": word.__file__, "calls": len(CALLS),
            "functions": len(boto3.client("lambda").list_functions()["Functions"]), "boto3": boto3.__file__,
            "tmp": os.listdir("/tmp"), "opt_writable": os.access("/opt", os.W_OK), "file": __file__,
            "localemu": __import__("importlib.util").util.find_spec("localemu") is not None}
"""


@pytest.fixture(scope="module")
def function(cloud: Cloud) -> str:
    layers = [
        cloud.client("lambda").publish_layer_version(LayerName=name, Content={"ZipFile": zipped(**files)})
        for name, files in (
            ("one", {"python__word": "x = 1"}),
            ("two", {"python__word": "x = 2", "lib__y": ""}),
        )
    ]
    arns = [layer["LayerVersionArn"] for layer in layers]
    cloud.function("semantics", SOURCE, Layers=arns, Timeout=2, Environment={"Variables": {"MINE": "yes"}})
    return "semantics"


def tail(answer: dict[str, Any]) -> str:
    return base64.b64decode(answer["LogResult"]).decode()


def test_files_and_environment_are_where_aws_puts_them(cloud: Cloud, function: str) -> None:
    error, seen, answer = cloud.invoke(function)
    assert error is None, seen
    assert seen["word"] == "/opt/python/word.py"
    assert seen["file"] == "/var/task/app.py"
    assert seen["boto3"].startswith("/var/runtime/")
    assert seen["path"][:3] == ["/var/task", "/opt/python/lib/python3.13/site-packages", "/opt/python"]
    assert seen["path"][-1] == "/var/runtime"
    assert seen["tmp"] == ["mine"] and not seen["opt_writable"] and not seen["localemu"]
    assert seen["functions"] >= 1
    env = seen["env"]
    assert env["MINE"] == "yes" and env["AWS_ENDPOINT_URL"] == cloud.url
    assert env["AWS_LAMBDA_FUNCTION_NAME"] == "semantics" and env["AWS_LAMBDA_FUNCTION_VERSION"] == "$LATEST"
    assert env["AWS_EXECUTION_ENV"] == "AWS_Lambda_python3.13" and env["_HANDLER"] == "app.handler"
    assert env["AWS_LAMBDA_INITIALIZATION_TYPE"] == "on-demand" and env["LAMBDA_TASK_ROOT"] == "/var/task"
    assert env["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "128" and env["AWS_REGION"] == "eu-west-1"
    assert env["AWS_LAMBDA_LOG_GROUP_NAME"] == "/aws/lambda/semantics"
    assert not [name for name in env if name.startswith(("LOCALEMU", "ISTHMUS"))]
    log = tail(answer)
    assert log.startswith("START RequestId:") and "hello from semantics" in log and "REPORT RequestId:" in log


def test_an_environment_is_reused_while_warm(cloud: Cloud, function: str) -> None:
    first = cloud.invoke(function)[1]["calls"]
    assert cloud.invoke(function)[1]["calls"] == first + 1


def test_an_exception_is_reported_with_type_and_trace(cloud: Cloud, function: str) -> None:
    error, seen, _ = cloud.invoke(function, {"fail": "nope"})
    assert error == "Unhandled"
    assert (seen["errorType"], seen["errorMessage"]) == ("Boom", "nope")
    assert "/var/task/app.py" in seen["stackTrace"][0]


def test_a_timeout_ends_the_sandbox(cloud: Cloud, function: str) -> None:
    error, seen, answer = cloud.invoke(function, {"sleep": 30})
    assert error == "Unhandled" and seen["errorType"] == "Sandbox.Timedout"
    assert seen["errorMessage"].endswith("Error: Task timed out after 2.00 seconds")
    assert "Task timed out after 2.00 seconds" in tail(answer)
    assert cloud.invoke(function)[1]["calls"] == 1


@pytest.mark.parametrize(
    ("event", "ending"),
    [
        ({"exit": 3}, "exit status 3"),
        ({"kill": 9}, "signal: killed"),
        ({"kill": 11}, "signal: segmentation fault"),
    ],
)
def test_a_crash_is_reported_as_aws_does(
    cloud: Cloud, function: str, event: dict[str, int], ending: str
) -> None:
    error, seen, _ = cloud.invoke(function, event)
    assert error == "Unhandled" and seen["errorType"] == "Runtime.ExitError"
    assert seen["errorMessage"].endswith(f"Runtime exited with error: {ending}")


def test_a_response_above_six_megabytes_is_refused(cloud: Cloud, function: str) -> None:
    error, seen, _ = cloud.invoke(function, {"big": 6 * 1024 * 1024 + 200})
    assert error == "Unhandled" and seen["errorType"] == "Function.ResponseSizeTooLarge"
    assert len(cloud.invoke(function, {"big": 5_000_000})[1]) == 5_000_000


def test_a_failing_import_is_an_init_error(cloud: Cloud) -> None:
    cloud.function("broken", "import nothing_of_that_name\n")
    error, seen, answer = cloud.invoke("broken")
    assert error == "Unhandled" and seen["errorType"] == "Runtime.ImportModuleError"
    assert "nothing_of_that_name" in seen["errorMessage"] and "nothing_of_that_name" in tail(answer)


def test_an_unknown_runtime_says_what_to_do(cloud: Cloud) -> None:
    cloud.function("old", "def handler(e, c): return 1\n", Runtime="python3.11")
    error, seen, _ = cloud.invoke("old")
    assert error and "--runtime python3.11=" in seen["errorMessage"]


def test_several_environments_run_at_once(cloud: Cloud) -> None:
    cloud.function(
        "parallel", "import time, os\ndef handler(e, c):\n    time.sleep(1)\n    return c.log_stream_name\n"
    )
    began = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        streams = {answer[1] for answer in pool.map(lambda _: cloud.invoke("parallel"), range(4))}
    assert len(streams) == 4
    assert time.monotonic() - began < 3.5


def test_logs_reach_cloudwatch(cloud: Cloud, function: str) -> None:
    logs = cloud.client("logs")

    def lines() -> list[str] | None:
        found = logs.filter_log_events(logGroupName="/aws/lambda/semantics")["events"]
        return [entry["message"] for entry in found if "hello from semantics" in entry["message"]]

    assert wait_for(lines)
    assert "hello from semantics" in cloud.cli("logs", "semantics")["text"]


def test_versions_and_weighted_aliases(cloud: Cloud) -> None:
    client = cloud.client("lambda")
    cloud.function("weighted", "def handler(e, c): return c.function_version\n")
    assert client.publish_version(FunctionName="weighted")["Version"] == "1"
    client.update_function_code(
        FunctionName="weighted", ZipFile=zipped(app="def handler(e, c): return 'v' + c.function_version\n")
    )
    wait_for(
        lambda: (
            client.get_function(FunctionName="weighted")["Configuration"]["LastUpdateStatus"] == "Successful"
        )
    )
    assert client.publish_version(FunctionName="weighted")["Version"] == "2"
    routing = {"AdditionalVersionWeights": {"2": 0.5}}
    client.create_alias(FunctionName="weighted", Name="live", FunctionVersion="1", RoutingConfig=routing)
    seen = [cloud.invoke("weighted", Qualifier="live") for _ in range(40)]
    assert {answer[1] for answer in seen} == {"1", "v2"}
    assert all(answer[2]["ExecutedVersion"] == answer[1].lstrip("v") for answer in seen)
    client.update_alias(
        FunctionName="weighted",
        Name="live",
        FunctionVersion="2",
        RoutingConfig={"AdditionalVersionWeights": {}},
    )
    assert {cloud.invoke("weighted", Qualifier="live")[1] for _ in range(10)} == {"v2"}


def test_an_asynchronous_failure_reaches_the_dead_letter_queue(cloud: Cloud) -> None:
    sqs, client = cloud.client("sqs"), cloud.client("lambda")
    queue = sqs.create_queue(QueueName="dead")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    cloud.function(
        "later", "def handler(e, c): raise ValueError(e['why'])\n", DeadLetterConfig={"TargetArn": arn}
    )
    client.put_function_event_invoke_config(FunctionName="later", MaximumRetryAttempts=0)
    assert (
        client.invoke(FunctionName="later", InvocationType="Event", Payload=b'{"why": "late"}')["StatusCode"]
        == 202
    )
    found = wait_for(lambda: sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=1).get("Messages"))
    assert json.loads(found[0]["Body"]) == {"why": "late"}


LATE_IMPORT = """
import time
def handler(event, context):
    print("begun", flush=True)
    time.sleep((event or {}).get("sleep", 0))
    import late
    return late.WORD
"""


def test_an_update_lets_what_runs_on_the_old_version_end(cloud: Cloud) -> None:
    """With its code, of which it may need more, and without a gap for who comes meanwhile."""
    client = cloud.client("lambda")
    cloud.function("drained", LATE_IMPORT)
    log = cloud.state / "logs" / "function-drained.log"

    def update(word: str) -> None:
        archive = zipped(app=LATE_IMPORT, late=f'WORD = "{word}"')
        client.update_function_code(FunctionName="drained", ZipFile=archive)

    update("old")
    client.get_waiter("function_updated_v2").wait(FunctionName="drained", WaiterConfig={"Delay": 1})
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(cloud.invoke, "drained", {"sleep": 3})
        wait_for(lambda: log.exists() and "begun" in log.read_text())
        update("new")
        words = []
        while not running.done():
            error, word, _ = cloud.invoke("drained", {})
            assert error is None
            words.append(word)
    assert running.result()[:2] == (None, "old")
    assert words[-1] == "new" and set(words) <= {"old", "new"}
