"""A state machine of the same states that does nothing: what the engine itself takes for a path.

Each state that was visited becomes one of its kind, in the same order: a task calls a function that
returns at once, a wait waits as long, everything else passes. A nested machine stays nested.
"""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Sequence
from typing import Any

from isthmus.adapters.aws.session import client
from isthmus.model.execution import Run, Visit

NAME = "isthmus-floor"
NOTHING = "def handler(event, context):\n    return {}\n"
State = dict[str, Any]


class Floor:
    """Makes the function and the role once, then runs paths."""

    def __init__(self) -> None:
        role = self._role()
        self._function, self._role_arn = self._make_function(role), role

    def seconds(self, path: Run, nested: Run) -> float:
        """Run the states of ``path``, those of ``nested`` in place of the state that started it."""
        inner = self._machine("nested", [_state(visit, self._function) for visit in nested.visits])
        states = [_nested(inner) if visit.nested else _state(visit, self._function) for visit in path.visits]
        return self._run(self._machine("path", states))

    def _machine(self, name: str, states: Sequence[State]) -> str:
        machine = client("stepfunctions").create_state_machine(
            name=f"{NAME}-{name}-{time.time_ns()}", definition=_definition(states), roleArn=self._role_arn
        )
        return str(machine["stateMachineArn"])

    def _run(self, machine: str) -> float:
        steps = client("stepfunctions")
        execution = steps.start_execution(stateMachineArn=machine, input="{}")["executionArn"]
        while (found := steps.describe_execution(executionArn=execution))["status"] == "RUNNING":
            time.sleep(0.1)
        if found["status"] != "SUCCEEDED":
            raise SystemExit(f"the reference ended {found['status']}: {found.get('cause')}")
        return float((found["stopDate"] - found["startDate"]).total_seconds())

    def _role(self) -> str:
        services = ["states.amazonaws.com", "lambda.amazonaws.com"]
        trust = {"Effect": "Allow", "Principal": {"Service": services}, "Action": "sts:AssumeRole"}
        everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
        iam = client("iam")
        made = iam.create_role(RoleName=NAME, AssumeRolePolicyDocument=_policy(trust))
        iam.put_role_policy(RoleName=NAME, PolicyName="all", PolicyDocument=_policy(everything))
        return str(made["Role"]["Arn"])

    def _make_function(self, role: str) -> str:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("app.py", NOTHING)
        lambdas = client("lambda")
        made = lambdas.create_function(
            FunctionName=NAME,
            Runtime="python3.13",
            Handler="app.handler",
            Role=role,
            Code={"ZipFile": packed.getvalue()},
        )
        lambdas.get_waiter("function_active_v2").wait(FunctionName=NAME)
        return str(made["FunctionArn"])


def _policy(statement: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def _definition(states: Sequence[State]) -> str:
    names = [str(number) for number in range(len(states))]
    ends: list[State] = [*({"Next": name} for name in names[1:]), {"End": True}]
    linked = {name: {**state, **end} for name, state, end in zip(names, states, ends, strict=True)}
    return json.dumps({"StartAt": names[0], "States": linked})


def _state(visit: Visit, function: str) -> State:
    if visit.type == "Task":
        parameters = {"FunctionName": function, "Payload": {}}
        return {"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "Parameters": parameters}
    if visit.type == "Wait":
        return {"Type": "Wait", "Seconds": round((visit.left_seconds or 0) - visit.entered_seconds)}
    return {"Type": "Pass"}


def _nested(machine: str) -> State:
    parameters = {"StateMachineArn": machine, "Input": {}}
    resource = "arn:aws:states:::states:startExecution.sync:2"
    return {"Type": "Task", "Resource": resource, "Parameters": parameters}
