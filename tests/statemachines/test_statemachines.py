"""The state machines against the code and the template, without running them."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cloudformation import ROOT, load_template, resources

from isthmus import errors
from isthmus.adapters.local.events import MemoryExecutions
from isthmus.adapters.local.records import MemoryRecords
from isthmus.model.approval import Answer
from isthmus.workflows.approve_model import Asked
from isthmus.workflows.refresh_models import refresh_models
from isthmus.workflows.shift_traffic import commit_champion

MACHINES = {path.name.removesuffix(".asl.json"): path for path in (ROOT / "statemachines").glob("*.asl.json")}
SERVICE_ERRORS = ("States.", "Lambda.", "SQS.", "Sqs.", "SageMaker.", "StepFunctions.", "Runtime.")
GOES_ON = {
    ("train_and_deploy", "TrainOnRig"): {"CountLostAttempt"},
    ("train_and_deploy", "TrainOnSageMaker"): {"CollectModel"},
    ("train_and_deploy", "PrepareSagemaker"): {"CountLostAttempt"},
    ("train_and_deploy", "CollectModel"): {"CountLostAttempt"},
    ("train_and_deploy", "AskApproval"): {"NobodyAnswered"},
    ("deploy_cloud", "StageModel"): {"GiveBack"},
    ("deploy_cloud", "ProveModel"): {"GiveBack"},
    ("deploy_cloud", "ShiftTraffic"): {"RevertTraffic"},
    ("deploy_cloud", "CheckHealth"): {"RevertTraffic"},
    ("deploy_cloud", "LookAgain"): {"RevertTraffic"},
    ("deploy_cloud", "CommitChampion"): {"RevertTraffic"},
    # With the lock kept, the rule on executions that failed takes the traffic back.
    ("deploy_cloud", "RevertTraffic"): {"Failed"},
    ("deploy_cloud", "ReleaseLock"): {"InService"},
    ("deploy_cloud", "GiveBack"): {"Failed"},
}
"""What is caught, and where it leads. Everything else ends its execution in the state that failed."""
AFTER_A_FAILURE = {"RevertTraffic", "GiveBack"}
LAMBDA_TROUBLE = {
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
    "Lambda.TooManyRequestsException",
}


def machine(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(MACHINES[name].read_text())
    return loaded


def states() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for name in sorted(MACHINES):
        for state, body in machine(name)["States"].items():
            yield name, state, body


def tasks() -> list[tuple[str, str, dict[str, Any]]]:
    return [entry for entry in states() if entry[2]["Type"] == "Task"]


def following(body: dict[str, Any]) -> set[str]:
    targets = {body[name] for name in ("Next", "Default") if name in body}
    for branch in (*body.get("Choices", []), *body.get("Catch", [])):
        targets.add(branch["Next"])
    return targets


def named_tasks() -> list[Any]:
    return [pytest.param(name, state, body, id=f"{name}.{state}") for name, state, body in tasks()]


def test_every_custom_error_has_a_class() -> None:
    custom = {
        error
        for _, _, body in states()
        for rule in (*body.get("Retry", []), *body.get("Catch", []))
        for error in rule["ErrorEquals"]
        if not error.startswith(SERVICE_ERRORS)
    }
    assert custom
    for name in custom:
        assert issubclass(getattr(errors, name, type), errors.IsthmusError), name


def test_the_tree_in_the_docstring_is_the_tree_in_the_code() -> None:
    assert errors.__doc__
    drawn = set(re.findall(r"(?:├── |└── |^    ?)([A-Z]\w+)", errors.__doc__, re.MULTILINE))
    drawn.add("IsthmusError")
    classes = {
        name
        for name, entry in vars(errors).items()
        if isinstance(entry, type) and issubclass(entry, errors.IsthmusError)
    }
    assert drawn == classes


@pytest.mark.parametrize(("name", "state", "body"), named_tasks())
def test_a_failure_is_caught_only_where_the_execution_goes_on(
    name: str, state: str, body: dict[str, Any]
) -> None:
    """A redrive begins in the state that failed: behind a Catch that is the state where the catch led."""
    caught = body.get("Catch", [])
    assert {rule["Next"] for rule in caught} == GOES_ON.get((name, state), set())
    for rule in caught:
        # What is done after a failure must not hide it by a failure of its own.
        assert rule["ResultPath"] == ("$.second_failure" if state in AFTER_A_FAILURE else "$.failure")


def test_a_failed_revert_keeps_the_lock_and_a_slow_one_is_tried_again() -> None:
    """Who gives the lock back says that nothing is left to undo."""
    states = machine("deploy_cloud")["States"]
    revert, fail = states["RevertTraffic"], states["Failed"]
    assert "States.Timeout" in {error for rule in revert["Retry"] for error in rule["ErrorEquals"]}
    assert (revert["Next"], fail["Type"]) == ("GiveBack", "Fail")
    assert {rule["Next"] for rule in revert["Catch"]} == {"Failed"}


def test_what_is_on_record_as_in_service_stays_when_its_lock_cannot_be_given_back() -> None:
    states = machine("deploy_cloud")["States"]
    assert (states["CommitChampion"]["Next"], states["ReleaseLock"]["Next"]) == ("ReleaseLock", "InService")
    assert states["CommitChampion"]["Parameters"]["Payload"]["keep_lock"] is True
    assert states["ReleaseLock"]["Parameters"]["Payload"]["action"] == "release"


def test_every_bad_end_of_a_rollout_is_cleaned_up_after() -> None:
    """States.ALL catches neither States.Runtime nor States.DataLimitExceeded: the rule hears of all ends."""
    functions = resources(load_template(), "AWS::Serverless::Function")
    detail = functions["DeployCloudFunction"]["Events"]["RolloutEnded"]["Properties"]["Pattern"]["detail"]
    assert set(detail["status"]) == {"ABORTED", "FAILED", "TIMED_OUT"}


def test_nothing_of_a_pipeline_ends_where_a_redrive_would_only_fail_again() -> None:
    """A Fail state is entered again, and fails again (developer guide, "Redrive behavior of states")."""
    kinds = {body["Type"] for body in machine("train_and_deploy")["States"].values()}
    assert "Fail" not in kinds
    assert not [state for state, body in CHOICES if "Default" not in body]


CHOICES = [
    (state, body) for state, body in machine("train_and_deploy")["States"].items() if body["Type"] == "Choice"
]


def test_a_redrive_never_reuses_the_name_of_an_execution() -> None:
    """A name whose execution has ended is refused for 90 days (API reference, StartExecution)."""
    started = [body for _, _, body in tasks() if ":states:startExecution" in body["Resource"]]
    assert started
    assert all("$$.Execution.RedriveCount" in body["Parameters"]["Name.$"] for body in started)


def test_what_may_have_been_undone_is_told_of_the_redrive() -> None:
    states = machine("train_and_deploy")["States"]
    told = {
        state
        for state, body in states.items()
        if "$$.Execution.RedriveCount" in json.dumps(body.get("Parameters", {}))
    }
    assert told == {
        "PlanTraining",
        "WaitForRig",
        "PrepareSagemaker",
        "CollectModel",
        "EvaluateModel",
        "DeployCloud",
        "DeployEdge",
        "CheckEdge",
        "RecordDeployed",
        "RecordRejected",
    }


TASKS = [pytest.param(*task, id=f"{task[0]}.{task[1]}") for task in tasks()]


@pytest.mark.parametrize(("name", "state", "body"), TASKS)
def test_a_lambda_task_is_bounded_and_retries_lambdas_own_trouble(
    name: str, state: str, body: dict[str, Any]
) -> None:
    if not body["Resource"].startswith("arn:aws:states:::lambda:invoke"):
        return
    assert "TimeoutSeconds" in body or "TimeoutSecondsPath" in body
    retried = {error for rule in body.get("Retry", []) for error in rule["ErrorEquals"]}
    assert retried >= LAMBDA_TROUBLE, f"{state} gives up at the first throttled call"


@pytest.mark.parametrize("name", sorted(MACHINES))
def test_every_target_exists_and_every_state_is_reached(name: str) -> None:
    definition = machine(name)
    body = definition["States"]
    reached, waiting = set(), {definition["StartAt"]}
    while waiting:
        state = waiting.pop()
        assert state in body, f"{state} does not exist"
        reached.add(state)
        waiting |= following(body[state]) - reached
    assert reached == set(body), f"never reached: {sorted(set(body) - reached)}"


@pytest.mark.parametrize("name", sorted(MACHINES))
def test_every_state_ends_or_goes_on(name: str) -> None:
    for state, body in machine(name)["States"].items():
        ends = body["Type"] in ("Succeed", "Fail") or body.get("End")
        assert ends or following(body), state


def test_a_heartbeat_is_shorter_than_its_timeout() -> None:
    found = 0
    for _, state, body in tasks():
        if "HeartbeatSeconds" in body and "TimeoutSeconds" in body:
            found += 1
            assert body["HeartbeatSeconds"] < body["TimeoutSeconds"], state
        assert ("HeartbeatSecondsPath" in body) <= ("TimeoutSecondsPath" in body), state
    paths = {
        body["HeartbeatSecondsPath"].rsplit(".", 1)[1]
        for _, _, body in tasks()
        if "HeartbeatSecondsPath" in body
    }
    # Where they come from the job, register_dataset refuses a tolerance that reaches the deadline.
    assert found or paths == {"heartbeat_seconds"}


def test_a_job_that_waits_in_a_queue_has_no_heartbeat() -> None:
    waiting = machine("train_and_deploy")["States"]["WaitForRig"]
    assert not {"HeartbeatSeconds", "HeartbeatSecondsPath"} & set(waiting)


def test_a_model_waits_for_approval_before_anything_is_deployed_and_nobodys_answer_rejects_it() -> None:
    states = machine("train_and_deploy")["States"]
    assert states["RegisterModel"]["Next"] == "NeedsApproval"
    leads = {name for name, body in states.items() if "DeployCloud" in following(body)}
    assert leads == {"NeedsApproval", "Approved"}, "no other way into service"
    ask = states["AskApproval"]
    assert ask["Parameters"]["Payload"]["token.$"] == "$$.Task.Token"
    assert ask["TimeoutSecondsPath"] == "$.package.value.approval_seconds"
    assert [rule["ErrorEquals"] for rule in ask["Catch"]] == [["States.Timeout"]], "any other failure is one"
    assert (ask["Next"], states["NobodyAnswered"]["Next"]) == ("RecordApproval", "RecordApproval")
    (let,) = states["Approved"]["Choices"]
    assert (let["BooleanEquals"], let["Next"], states["Approved"]["Default"]) == (
        True,
        "DeployCloud",
        "RecordRejected",
    )


def test_what_nobody_answered_is_an_answer() -> None:
    said = machine("train_and_deploy")["States"]["NobodyAnswered"]["Parameters"]
    given = {
        name.removesuffix(".$"): "2026-01-02T03:04:05Z" if "$" in name else value
        for name, value in said.items()
    }
    assert msgspec.convert(given, Answer).state == "EXPIRED"


def test_what_is_asked_is_what_the_function_reads() -> None:
    asked = machine("train_and_deploy")["States"]["AskApproval"]["Parameters"]["Payload"]["asked"]
    assert {name.removesuffix(".$") for name in asked} == set(Asked.__struct_fields__)


def template_machines() -> dict[str, dict[str, Any]]:
    found = resources(load_template(), "AWS::Serverless::StateMachine")
    return {Path(entry["DefinitionUri"]).name.removesuffix(".asl.json"): entry for entry in found.values()}


def test_each_machine_is_in_the_template() -> None:
    assert set(template_machines()) == set(MACHINES)


@pytest.mark.parametrize("name", sorted(MACHINES))
def test_the_substitutions_are_those_of_the_template(name: str) -> None:
    used = set(re.findall(r"\$\{(\w+)\}", MACHINES[name].read_text()))
    assert used == set(template_machines()[name]["DefinitionSubstitutions"])


@pytest.mark.parametrize("name", sorted(MACHINES))
def test_the_machine_may_invoke_exactly_the_functions_that_it_names(name: str) -> None:
    entry = template_machines()[name]
    named = {
        value["Fn::GetAtt"][0]
        for value in entry["DefinitionSubstitutions"].values()
        if "Fn::GetAtt" in value and value["Fn::GetAtt"][0].endswith("Function")
    }
    allowed = set()
    for statement in entry["Policies"][0]["Statement"]:
        if statement["Action"] == "lambda:InvokeFunction":
            resource = statement["Resource"]
            allowed |= {
                arn["Fn::GetAtt"][0] for arn in (resource if isinstance(resource, list) else [resource])
            }
    assert allowed == named


# --------------------------------------------------------------------------- payloads and handlers


def subscripts(tree: ast.AST, variable: str) -> tuple[set[str], set[str]]:
    """Return the keys that code reads of a mapping: those it needs, and those it asks for or tests."""
    needed, optional = set(), set()
    for node in ast.walk(tree):
        match node:
            case ast.Subscript(value=ast.Name(id=name), slice=ast.Constant(value=str(key))) if (
                name == variable
            ):
                needed.add(key)
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id=name), attr="get"),
                args=[ast.Constant(value=str(key)), *_],
            ) if name == variable:
                optional.add(key)
            case ast.Compare(
                left=ast.Constant(value=str(key)), ops=[ast.In()], comparators=[ast.Name(id=name)]
            ) if name == variable:
                optional.add(key)
    return needed, optional


def reads(folder: str) -> tuple[set[str], set[str]]:
    return subscripts(ast.parse((ROOT / "functions" / folder / "app.py").read_text()), "event")


def snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def payloads() -> list[Any]:
    found = []
    for name, state, body in tasks():
        parameters = body.get("Parameters", {})
        function = re.fullmatch(r"\$\{(\w+)\}", str(parameters.get("FunctionName", "")))
        if function:
            keys = {key.removesuffix(".$") for key in parameters["Payload"]}
            action = parameters["Payload"].get("action", "")
            found.append(pytest.param(snake(function[1]), keys, action, id=f"{name}.{state}"))
    return found


ACTIONS = {
    "stage": {"model", "bundle", "rollout", "release", "against"},
    "prove": {"model", "bundle", "rollout", "function", "version"},
    "shift": {"model", "bundle", "rollout", "function", "version", "previous", "step"},
    "check": {"model", "bundle", "rollout", "function", "version", "previous", "since", "before"},
    "commit": {"model", "bundle", "rollout", "version", "release", "job_key", "keep_lock", "health"},
    "revert": {"model", "bundle", "rollout", "function", "version", "previous"},
    "release": {"model", "bundle", "rollout"},
}
"""What each action of ``workflows/deploy_cloud.py`` reads; the next test holds it to the code."""


@pytest.mark.parametrize(("function", "keys", "action"), payloads())
def test_a_payload_has_the_keys_that_its_handler_reads(function: str, keys: set[str], action: str) -> None:
    if function == "deploy_cloud":
        assert keys >= ACTIONS[action] | {"action"}
        return
    needed, optional = reads(function)
    if function == "deploy_edge" and "deployment" in keys:
        needed, optional = {"deployment", "model", "release", "rollout"}, {"redrives"}
    elif function == "record_outcome":  # a state's payload; the other form is EventBridge's
        needed, optional = {"job_key", "state", "execution", "redrives", "started_at"}, {"execution_arn"}
    else:
        needed -= optional
    assert needed <= keys, f"{function} reads {sorted(needed - keys)}"
    assert keys <= needed | optional, f"{function} is sent {sorted(keys - needed - optional)} for nothing"


def test_the_actions_of_deploy_cloud_are_those_of_its_machine() -> None:
    tree = ast.parse((ROOT / "src/isthmus/workflows/deploy_cloud.py").read_text())
    cases = {
        node.pattern.value.value
        for node in ast.walk(tree)
        if isinstance(node, ast.match_case)
        and isinstance(node.pattern, ast.MatchValue)
        and isinstance(node.pattern.value, ast.Constant)
    }
    sent = {param.values[2] for param in payloads() if param.values[0] == "deploy_cloud"}
    assert cases == sent == set(ACTIONS)
    needed, _ = subscripts(tree, "event")
    assert needed <= {"action"} | set().union(*ACTIONS.values())


def test_finish_attempt_is_sent_what_it_reads() -> None:
    source = (ROOT / "src/isthmus/adapters/aws/bridge.py").read_text()
    sent = set(re.findall(r'"(\w+)": \1', source))
    assert reads("finish_attempt")[0] <= sent


def test_the_nested_machine_is_sent_what_it_reads() -> None:
    begin = machine("deploy_cloud")["States"]["Begin"]["Parameters"]
    wanted = {value.removeprefix("$.") for key, value in begin.items() if key.endswith(".$")}
    nested = machine("train_and_deploy")["States"]["DeployCloud"]["Parameters"]["Input"]
    assert wanted <= {key.removesuffix(".$") for key in nested}
    records, executions = MemoryRecords(), MemoryExecutions()
    commit_champion("digits", "b", 1, "k", "1", records=records, now="now")
    refresh_models("r", records=records, executions=executions, machine="m")
    assert all(set(payload) == wanted for payload in executions.started.values())
