"""The description of what this server speaks (OpenAPI 3.1), made from its routes and its messages."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec

from isthmus import __version__
from isthmus.inference import messages
from isthmus.inference.binary import HEADER
from isthmus.inference.http import BINARY, JSON
from isthmus.inference.images import MEDIA
from isthmus.inference.routes import TABLE, Pattern, Verb

REF = "#/components/schemas/{name}"

SUMMARIES: dict[Verb, str] = {
    "server": "Server metadata",
    "live": "Server live",
    "ready": "Server ready",
    "openapi": "This document",
    "model": "Model metadata",
    "model_ready": "Model ready",
    "infer": "Inference",
    "classify": "The classes of a picture",
}
ANSWERS: dict[Verb, type[msgspec.Struct] | None] = {
    "server": messages.ServerMetadata,
    "live": messages.ServerLive,
    "ready": messages.ServerReady,
    "openapi": None,
    "model": messages.ModelMetadata,
    "model_ready": messages.ModelReady,
    "infer": messages.InferResponse,
    "classify": messages.Classification,
}
REFUSALS = {
    "400": "The request does not fit; the sentence says what was needed.",
    "404": "No such model or version is in service.",
    "405": "Another method was meant: Allow says which.",
    "413": "The request, or its answer, is larger than can be carried.",
    "415": "The body is of a kind that is not understood.",
}
NOT_ANSWERED = {
    "401": "Who asks has no token, or none that is good.",
    "403": "Who asks is not known, or may not ask.",
    "405": REFUSALS["405"],
    "429": "More requests came than are taken; ask again later.",
    "500": "The model's bundle is broken.",
    "502": "The model failed to answer.",
    "503": "Nothing can answer at present.",
    "504": "The model took too long.",
}
NOT_READY = {"400": "Not ready.", "503": "Not ready: no model is in service yet."}
MODEL_NAME: dict[str, Any] = {
    "name": "MODEL_NAME",
    "in": "path",
    "required": True,
    "schema": {"type": "string"},
}
MODEL_VERSION: dict[str, Any] = {**MODEL_NAME, "name": "MODEL_VERSION"}
TOP_K = {
    "name": "top_k",
    "in": "query",
    "description": "How many classes are wanted, at most.",
    "schema": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 5},
}
HEADER_LENGTH = {
    "description": "How many bytes of the body are the JSON object, when tensors follow it as bytes.",
    "schema": {"type": "integer", "minimum": 0},
}
TENSOR_DATA = {
    "title": "TensorData",
    "description": "A tensor's elements, row-major: flat, or nested as its shape says.",
    "type": "array",
    "items": {
        "anyOf": [
            {"type": ["number", "string", "boolean"]},
            {"$ref": REF.format(name="TensorData")},
        ]
    },
}


HANDED_OVER = [
    {
        "name": "Isthmus-Handover",
        "in": "header",
        "description": "The id of an offer, where the body was put instead of being sent.",
        "schema": {"type": "string"},
    },
    {
        "name": "Isthmus-Handover-Answer",
        "in": "header",
        "description": "Whether an answer that is too large may come as a 303.",
        "schema": {"enum": ["allowed"]},
    },
]
HANDED_BACK = {
    "description": "The answer is too large to be sent: it lies at Location, and must be as is said here.",
    "headers": {"Location": {"schema": {"type": "string"}}},
    "content": {JSON: {"schema": {"type": "object", "required": ["handover"]}}},
}


@cache
def document(*, hand_over: bool = False) -> bytes:
    """Return the description as JSON; the same bytes at each call."""
    return msgspec.json.encode(describe_api(hand_over=hand_over))


def describe_api(*, hand_over: bool = False) -> dict[str, Any]:
    """Return the description; with ``hand_over``, of a server where bodies may go through a store."""
    paths = {path: _path_item(row, path, hand_over) for row in TABLE for path in row.paths}
    if hand_over:
        paths["/v2/models/{MODEL_NAME}/handover"] = _hand_over()
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "isthmus inference",
            "version": __version__,
            "summary": "Open Inference Protocol v2, with tensors as bytes and pictures",
            "description": "https://github.com/kserve/open-inference-protocol",
        },
        "paths": paths,
        "components": {"schemas": _schemas(hand_over)},
    }


def _path_item(row: Pattern, path: str, hand_over: bool) -> dict[str, Any]:
    parameters = [entry for entry in (MODEL_NAME, MODEL_VERSION) if entry["name"] in path]
    operation = _operation(row, versioned=MODEL_VERSION in parameters)
    if hand_over and "requestBody" in operation:
        operation["parameters"] += HANDED_OVER
        operation["responses"] = dict(sorted({**operation["responses"], "303": HANDED_BACK}.items()))
        operation["requestBody"]["required"] = False  # it may lie in the store
    item: dict[str, Any] = {row.method.lower(): operation}
    return {"parameters": parameters, **item} if parameters else item


def _hand_over() -> dict[str, Any]:
    # No model is asked, and the body is read as JSON whatever it is called.
    refusals = {k: v for k, v in {**REFUSALS, **NOT_ANSWERED}.items() if k not in ("415", "500", "502")}
    operation = {
        "operationId": "handover",
        "summary": "A place for a body that is too large to be sent",
        "requestBody": _body({JSON: _ref(messages.Wish)}),
        "responses": {
            "200": {"description": "Where to put it.", **_json(_ref(messages.Offer))},
            **{status: _refusal(refusals[status]) for status in sorted(refusals)},
        },
    }
    return {"parameters": [MODEL_NAME], "post": operation}


def _operation(row: Pattern, *, versioned: bool) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": row.verb + ("_version" if versioned else ""),
        "summary": SUMMARIES[row.verb],
        "responses": _responses(row),
    }
    if row.verb == "infer":
        operation["parameters"] = [{"name": HEADER, "in": "header", **HEADER_LENGTH}]
        operation["requestBody"] = _body({JSON: _ref(messages.InferRequest), BINARY: {}})
    if row.verb == "classify":
        operation["parameters"] = [TOP_K]
        operation["requestBody"] = _body({media: {} for media in MEDIA})
    return operation


def _responses(row: Pattern) -> dict[str, Any]:
    answer = ANSWERS[row.verb]
    good: dict[str, Any] = {
        "description": SUMMARIES[row.verb],
        **_json(_ref(answer) if answer else {"type": "object"}),
    }
    if row.verb == "infer":
        good["content"][BINARY] = {"schema": {}}
        good["headers"] = {HEADER: HEADER_LENGTH}
    refusals = NOT_ANSWERED if row.method == "GET" else {**REFUSALS, **NOT_ANSWERED}
    if row.model:
        refusals = {"404": REFUSALS["404"], **refusals}
    found = {status: _refusal(text) for status, text in refusals.items()}
    if answer in (messages.ServerReady, messages.ModelReady):
        either = {"anyOf": [_ref(answer), _ref(messages.Problem)]}
        found |= {status: {"description": text, **_json(either)} for status, text in NOT_READY.items()}
    return {"200": good, **dict(sorted(found.items()))}


def _refusal(text: str) -> dict[str, Any]:
    return {"description": text, **_json(_ref(messages.Problem))}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"content": {JSON: {"schema": schema}}}


def _body(content: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {"required": True, "content": {media: {"schema": schema} for media, schema in content.items()}}


def _ref(kind: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": REF.format(name=kind.__name__)}


def _schemas(hand_over: bool) -> dict[str, Any]:
    kinds = [kind for kind in ANSWERS.values() if kind is not None]
    kinds += [messages.InferRequest, messages.Problem]
    if hand_over:
        kinds += [messages.Wish, messages.Offer]
    _, schemas = msgspec.json.schema_components(kinds, ref_template=REF)
    # What a struct keeps unparsed, or as a list of anything, is the protocol's tensor data.
    for name in ("InputTensor", "OutputTensor"):
        schemas[name]["properties"]["data"] = {"$ref": REF.format(name="TensorData")}
    return {**schemas, "TensorData": TENSOR_DATA}
