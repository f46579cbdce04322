"""CloudFormation by botocore's own hook: moto's needs packages that nothing else here does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from botocore.awsrequest import AWSResponse

from isthmus.adapters.aws.session import client
from isthmus.model import layout

ACCOUNT, REGION = "123456789012", "eu-west-1"
Parsed = dict[str, Any]


def outputs_of(stack: str) -> dict[str, str]:
    """Return what every version's template has, as far as it tells whose a stack is."""
    machine = layout.machines(stack)[0]
    return {
        "Bucket": layout.bucket_name(stack, ACCOUNT, REGION),
        "Table": f"{stack}-Table-1X",
        "TrainAndDeployMachine": f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:{machine}",
    }


@dataclass
class Formation:
    """Stacks with their resources as ``(logical id, type, physical id)``.

    A deletion takes one look per resource, and ends as ``ending`` says. A stack is one of isthmus that came
    up, unless ``outputs`` says otherwise.
    """

    stacks: dict[str, list[tuple[str, str, str]]] = field(default_factory=dict)
    outputs: dict[str, dict[str, str]] = field(default_factory=dict)
    status: dict[str, str] = field(default_factory=dict)
    descriptions: dict[str, str] = field(default_factory=dict)
    protected: set[str] = field(default_factory=set)
    ending: str = "DELETE_COMPLETE"
    _gone: dict[str, int] = field(default_factory=dict)

    def install(self) -> None:
        """Answer for the process's one client."""
        answers: dict[str, Callable[[str], Parsed]] = {
            "DescribeStacks": self._describe,
            "ListStackResources": self._resources,
            "DeleteStack": self._delete,
        }

        def answer(model: Any, params: Any, **_: Any) -> tuple[AWSResponse, Parsed]:
            parsed = answers[model.name](params["body"]["StackName"].removeprefix("arn:"))
            status = 400 if "Error" in parsed else 200
            return AWSResponse("", status, {}, None), parsed

        client("cloudformation").meta.events.register("before-call.cloudformation", answer)

    def _describe(self, stack: str) -> Parsed:
        if stack not in self.stacks:
            message = f"Stack with id {stack} does not exist"
            return {"Error": {"Code": "ValidationError", "Message": message}}
        if self.status.get(stack) == "DELETE_IN_PROGRESS":
            self._gone[stack] += 1
            if self._gone[stack] > len(self.stacks[stack]):
                self.status[stack] = self.ending
        outputs = [
            {"OutputKey": key, "OutputValue": value}
            for key, value in self.outputs.get(stack, outputs_of(stack)).items()
        ]
        status = self.status.get(stack, "CREATE_COMPLETE")
        described = {"StackId": f"arn:{stack}", "StackName": stack, "StackStatus": status, "Outputs": outputs}
        described["EnableTerminationProtection"] = stack in self.protected
        described["Description"] = self.descriptions.get(stack, "")
        return {"Stacks": [described]}

    def _resources(self, stack: str) -> Parsed:
        if stack not in self.stacks:
            return self._describe(stack)
        failed = self.status.get(stack) == "DELETE_FAILED"
        entries = []
        for number, (logical, kind, physical) in enumerate(self.stacks[stack]):
            gone = number < self._gone.get(stack, 0)
            status = "DELETE_FAILED" if failed else "DELETE_COMPLETE" if gone else "CREATE_COMPLETE"
            entries.append(
                {
                    "LogicalResourceId": logical,
                    "ResourceType": kind,
                    "PhysicalResourceId": physical,
                    "ResourceStatus": status,
                    "ResourceStatusReason": "it is in use" if failed else "",
                }
            )
        return {"StackResourceSummaries": entries}

    def _delete(self, stack: str) -> Parsed:
        self.status[stack] = "DELETE_IN_PROGRESS"
        self._gone[stack] = 0
        return {}
