"""CloudFormation custom resources backed by Lambda functions.

Source: CloudFormation user guide, "Custom resource reference" (request and response objects).
"""

import json
import threading
import uuid
from dataclasses import dataclass, field
from typing import Any

from localemu import config
from localemu.aws.connect import connect_to
from localemu.http import Response, route
from localemu.services.cloudformation.resource_provider import (
    CloudFormationResourceProviderPlugin,
    OperationStatus,
    ProgressEvent,
    ResourceProvider,
)

TYPE = "AWS::CloudFormation::CustomResource"
ID, PROPERTIES = "PhysicalResourceId", "IsthmusRequestedProperties"
MAX_WAIT_SECONDS = 3600.0
MAX_RESPONSE_BYTES = 4096


@dataclass
class Waiting:
    """A request that its function has not answered yet."""

    event: threading.Event = field(default_factory=threading.Event)
    answer: dict[str, Any] = field(default_factory=dict)

    def finish(self, answer: dict[str, Any]) -> None:
        if not self.event.is_set():
            self.answer = answer
            self.event.set()


WAITING: dict[str, Waiting] = {}


class ResponseRoute:
    """PUT target of the ResponseURL, which on AWS is a pre-signed S3 URL."""

    @route("/_isthmus/cloudformation/<token>", methods=["PUT"])  # type: ignore[untyped-decorator]
    def put(self, request: Any, token: str) -> Any:
        waiting, body = WAITING.get(token), request.get_data()
        if waiting is None:
            return Response("expired", status=403)
        if len(body) > MAX_RESPONSE_BYTES:
            waiting.finish({"Status": "FAILED", "Reason": "Response object is too long."})
        else:
            waiting.finish(json.loads(body))
        return Response("", status=200)


def invoke(request: Any, arn: str, event: dict[str, Any], waiting: Waiting) -> None:
    """In a thread. Where AWS would wait an hour for a function that failed without answering, this says
    so."""
    client = connect_to(aws_access_key_id=request.account_id, region_name=request.region_name).lambda_
    try:
        result = client.invoke(FunctionName=arn, Payload=json.dumps(event))
    except client.exceptions.ClientError as error:
        waiting.finish({"Status": "FAILED", "Reason": str(error)})
        return
    if "FunctionError" in result:
        text = result["Payload"].read().decode(errors="replace")[:500]
        waiting.finish({"Status": "FAILED", "Reason": f"the function failed before it answered: {text}"})


def ask(request: Any, kind: str, properties: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
    """Send one request and wait for its answer."""
    token = uuid.uuid4().hex
    waiting = WAITING[token] = Waiting()
    arn = properties["ServiceToken"]
    event = {
        "RequestType": kind,
        "ServiceToken": arn,
        "ResponseURL": f"http://127.0.0.1:{config.GATEWAY_LISTEN[0].port}/_isthmus/cloudformation/{token}",
        "StackId": request.stack_id,
        "RequestId": token,
        "LogicalResourceId": request.logical_resource_id,
        "ResourceType": request.resource_type,
        "ResourceProperties": as_strings(properties),
        **extra,
    }
    threading.Thread(target=invoke, args=(request, arn, event, waiting), daemon=True).start()
    timeout = float(properties.get("ServiceTimeout") or MAX_WAIT_SECONDS)
    in_time = waiting.event.wait(timeout)
    del WAITING[token]
    return (
        waiting.answer
        if in_time
        else {
            "Status": "FAILED",
            "Reason": "CloudFormation did not receive a response from your Custom Resource.",
        }
    )


def as_strings(value: Any) -> Any:
    """CloudFormation sends every scalar property as text."""
    if isinstance(value, dict):
        return {key: as_strings(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [as_strings(inner) for inner in value]
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def event_for(properties: dict[str, Any], answer: dict[str, Any], fallback_id: str) -> Any:
    """Success carries the answer's Data as attributes."""
    if answer.get("Status") != "SUCCESS":
        reason = f"Received response status [FAILED] from custom resource. {answer.get('Reason', '')}"
        return ProgressEvent(status=OperationStatus.FAILED, resource_model={}, message=reason)
    model = {
        **properties,
        **answer.get("Data", {}),
        PROPERTIES: properties,
        ID: answer.get(ID) or fallback_id,
    }
    return ProgressEvent(status=OperationStatus.SUCCESS, resource_model=model)


class CustomResource(ResourceProvider):  # type: ignore[misc]
    """Create, Update and Delete requests to the function named by ServiceToken."""

    TYPE = TYPE
    SCHEMA = {"typeName": TYPE, "primaryIdentifier": [f"/properties/{ID}"], "properties": {}}  # noqa: RUF012

    def create(self, request: Any) -> Any:
        wanted = dict(request.desired_state)
        return event_for(wanted, ask(request, "Create", wanted, {}), request.logical_resource_id)

    def update(self, request: Any) -> Any:
        """A new physical id means a replacement: the old one is then deleted, as AWS does when cleaning
        up."""
        before = request.previous_state or {}
        old, identity = before.get(PROPERTIES, before), before.get(ID, request.logical_resource_id)
        known = {ID, PROPERTIES}
        wanted = {key: value for key, value in request.desired_state.items() if key not in known}
        extra = {ID: identity, "OldResourceProperties": as_strings(old)}
        answer = ask(request, "Update", wanted, extra)
        if answer.get("Status") == "SUCCESS" and answer.get(ID, identity) != identity:
            ask(request, "Delete", old, {ID: identity})
        return event_for(wanted, answer, identity)

    def delete(self, request: Any) -> Any:
        before = request.previous_state or request.desired_state
        properties = before.get(PROPERTIES, before)
        answer = ask(request, "Delete", properties, {ID: before.get(ID, request.logical_resource_id)})
        return event_for(properties, answer, "")

    def read(self, request: Any) -> Any:
        return ProgressEvent(status=OperationStatus.SUCCESS, resource_model=request.desired_state)


class CustomResourcePlugin(CloudFormationResourceProviderPlugin):  # type: ignore[misc]
    """Also serves every ``Custom::`` type: LocalEmu maps them here."""

    name = TYPE

    def __init__(self) -> None:
        self.factory: type[CustomResource] | None = None

    def load(self) -> None:
        self.factory = CustomResource
