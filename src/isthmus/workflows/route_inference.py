"""The one API in front of every model: route a request to the model's own function."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from isthmus.errors import InvalidRequest, Unavailable, UnknownModel
from isthmus.model import layout
from isthmus.model.blob import Name
from isthmus.ports import Functions, Records

LIVE = "live"
KEPT = ("httpMethod", "path", "headers", "body", "isBase64Encoded")
"""Of the event, what a model's function is given."""
_MODEL = re.compile(r"^/v2/models/(?P<model>[^/]+)(/|$)")


def route_inference(
    event: Mapping[str, Any], *, stack: str, functions: Functions, records: Records
) -> dict[str, Any]:
    """Answer an API Gateway proxy event with a proxy response (Open Inference Protocol v2)."""
    try:
        return _route(event, stack, functions, records)
    except InvalidRequest as error:
        return respond(error.status, {"error": str(error)})


def model_of(event: Mapping[str, Any]) -> str:
    """Return the model that a request names; an empty text for the API's own paths."""
    match = _MODEL.match(str(event.get("path", "")).rstrip("/"))
    return match["model"] if match else ""


def respond(status: int, body: object) -> dict[str, Any]:
    """Return a JSON response in API Gateway's proxy form."""
    headers = {"Content-Type": "application/json"}
    return {"statusCode": status, "headers": headers, "body": msgspec.json.encode(body).decode()}


def _route(event: Mapping[str, Any], stack: str, functions: Functions, records: Records) -> dict[str, Any]:
    path, method = str(event.get("path", "")).rstrip("/"), str(event.get("httpMethod", ""))
    if model := model_of(event):
        return _forward(model, event, stack, functions)
    if path in ("/v2", "/v2/health/live", "/v2/health/ready") and method != "GET":
        return respond(405, {"error": f"{path} answers GET, not {method}"})
    if path == "/v2":
        return respond(200, {"name": "isthmus", "version": "2", "extensions": []})
    if path == "/v2/health/live":
        return respond(200, {"live": True})
    if path == "/v2/health/ready":
        # Before the first model there is nothing that could answer.
        ready = bool(records.query(layout.CHAMPIONS))
        return respond(200 if ready else 503, {"ready": ready})
    raise UnknownModel(f"there is nothing at {path or '/'}; models are below /v2/models/")


def _forward(model: str, event: Mapping[str, Any], stack: str, functions: Functions) -> dict[str, Any]:
    try:
        msgspec.convert(model, Name)
    except msgspec.ValidationError:
        raise UnknownModel(f"there is no model {model!r} in service") from None
    request = {"requestId": (event.get("requestContext") or {}).get("requestId", "")}
    passed = {**{name: event.get(name) for name in KEPT}, "requestContext": request}
    try:
        answer = functions.invoke(layout.function_name(stack, model), LIVE, passed)
    except UnknownModel:
        raise UnknownModel(f"there is no model {model!r} in service") from None
    except Unavailable:
        return respond(503, {"error": f"the model {model} did not answer in time; try again"})
    if answer.error:
        # The cause stays in the model's own log: it may quote the request.
        return respond(502, {"error": f"the model {model} failed to answer ({answer.error})"})
    return dict(msgspec.json.decode(answer.payload))
