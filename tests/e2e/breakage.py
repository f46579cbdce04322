"""Ways to break a deployed system for real, and to mend it: what a redrive is for."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

from demo.system import System, wait_until
from tests.e2e import world
from tests.e2e.cleanup import client
from tests.e2e.permissions import removals

Mend = Callable[[], None]


def function_name(system: System, logical_id: str) -> str:
    """Return a function's own name."""
    detail = client(system, "cloudformation").describe_stack_resource(
        StackName=system.stack, LogicalResourceId=logical_id
    )
    return str(detail["StackResourceDetail"]["PhysicalResourceId"])


def environment(system: System, logical_id: str, change: Callable[[dict[str, str]], dict[str, str]]) -> Mend:
    """Change a function's environment; return what puts it back."""
    functions, name = client(system, "lambda"), function_name(system, logical_id)

    def put(variables: dict[str, str]) -> None:
        functions.update_function_configuration(FunctionName=name, Environment={"Variables": variables})
        waiter = functions.get_waiter("function_updated_v2")
        waiter.wait(FunctionName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})

    before = functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
    put(change(dict(before)))
    return lambda: put(before)


def without_table(system: System, logical_id: str) -> Mend:
    """Let a function not find its table: it fails with one sentence before it does anything."""

    def drop(variables: dict[str, str]) -> dict[str, str]:
        variables.pop("ISTHMUS_TABLE")
        return variables

    return environment(system, logical_id, drop)


def hide_object(system: System, key: str) -> Mend:
    """Take an object out of the data bucket; return what puts it back."""
    s3, bucket = client(system, "s3"), world.outputs(system)["Bucket"]
    body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    s3.delete_object(Bucket=bucket, Key=key)

    def put_back() -> None:
        s3.put_object(Bucket=bucket, Key=key, Body=body)

    return put_back


def forbid(system: System, logical_id: str, *actions: str) -> Mend:
    """Take actions out of the policies of a function's role; return what puts them back."""
    functions, iam = client(system, "lambda"), client(system, "iam")
    configuration = functions.get_function_configuration(FunctionName=function_name(system, logical_id))
    role = configuration["Role"].rsplit("/", 1)[1]
    before: dict[str, dict[str, Any]] = {}
    end = removals.begin(system, role, *actions)
    for name in iam.list_role_policies(RoleName=role)["PolicyNames"]:
        before[name] = iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
        iam.put_role_policy(
            RoleName=role, PolicyName=name, PolicyDocument=json.dumps(_less(before[name], actions))
        )

    def put_back() -> None:
        for name, document in before.items():
            iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=json.dumps(document))
        end()

    return put_back


def _less(document: dict[str, Any], actions: tuple[str, ...]) -> dict[str, Any]:
    changed: dict[str, Any] = json.loads(json.dumps(document))
    for statement in changed["Statement"]:
        if isinstance(statement["Action"], list):
            statement["Action"] = [action for action in statement["Action"] if action not in actions]
    return changed


@contextlib.contextmanager
def frozen(process_id: int) -> Iterator[None]:
    """Hold a process, as a machine that hangs does."""
    os.kill(process_id, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process_id, signal.SIGCONT)


def when_entered(system: System, machine: str, name: str, state: str, act: Callable[[], Any]) -> None:
    """Act as soon as the newest execution whose name begins with ``name`` is in ``state``."""
    states, arn = client(system, "stepfunctions"), world.outputs(system)[machine]

    def is_there() -> bool:
        listed = states.list_executions(stateMachineArn=arn, statusFilter="RUNNING")["executions"]
        found = [entry["executionArn"] for entry in listed if entry["name"].startswith(name)]
        if not found:
            return False
        events = states.get_execution_history(executionArn=found[0], reverseOrder=True, maxResults=5)[
            "events"
        ]
        entered = [
            event["stateEnteredEventDetails"] for event in events if "stateEnteredEventDetails" in event
        ]
        return bool(entered) and entered[0]["name"] == state

    wait_until(is_there, f"{name} to enter {state}", 60)
    act()


def status(system: System, job_key: str) -> str:
    """Return the status of a job's first execution, RUNNING also before it began."""
    machine = world.outputs(system)["TrainAndDeployMachine"]
    arn = machine.replace(":stateMachine:", ":execution:") + f":{job_key}"
    states = client(system, "stepfunctions")
    try:
        return str(states.describe_execution(executionArn=arn)["status"])
    except states.exceptions.ExecutionDoesNotExist:
        return "RUNNING"


def keys_below(system: System, prefix: str) -> list[str]:
    """Return the keys of the data bucket below a prefix."""
    bucket = world.outputs(system)["Bucket"]
    listed = client(system, "s3").list_objects_v2(Bucket=bucket, Prefix=prefix)
    return [entry["Key"] for entry in listed.get("Contents", [])]
