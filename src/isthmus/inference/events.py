"""API Gateway's proxy events to requests, and responses back; what is not text travels as base64."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from isthmus.errors import InvalidRequest, PayloadTooLarge
from isthmus.inference.http import HttpRequest, HttpResponse, error_response
from isthmus.model.units import MIB, format_bytes

MAX_LAMBDA_BYTES = 6 * MIB
"""Lambda's limit on a synchronous request and on its response."""

RESPONSE_ROOM_BYTES = 64 * 1024
"""The proxy envelope (status, headers, JSON escapes of the body's quotes) counts against it too."""

MAX_BINARY_BYTES = (MAX_LAMBDA_BYTES - RESPONSE_ROOM_BYTES) // 4 * 3
"""Of a response that travels as base64."""


def to_request(event: Mapping[str, Any]) -> HttpRequest:
    """Translate ``{httpMethod, path, queryStringParameters, headers, body, isBase64Encoded}``.

    Source: API Gateway developer guide, "Input format of a Lambda function for proxy integration".

    Raises:
        InvalidRequest: not such an event, or a body that is not base64 as it says.
    """
    method, path = event.get("httpMethod"), event.get("path")
    if not isinstance(method, str) or not isinstance(path, str):
        raise InvalidRequest("the event must have httpMethod and path, as API Gateway's proxy events do")
    if query := texts_of(event, "queryStringParameters"):
        from urllib.parse import urlencode

        path = f"{path}?{urlencode(query, errors='replace')}"
    body = event.get("body") or ""
    if not isinstance(body, str):
        raise InvalidRequest("the event's body must be a string")
    headers = texts_of(event, "headers")
    packed = bool(event.get("isBase64Encoded"))
    try:
        data = base64.b64decode(body, validate=True) if packed else body.encode()
    except ValueError as error:
        raise InvalidRequest(
            f"the event's body is not {'base64, as it says' if packed else 'text'}"
        ) from error
    return HttpRequest(method, path, headers, data)


def texts_of(event: Mapping[str, Any], name: str) -> dict[str, str]:
    """Return an event's headers, or another of its objects, as texts. Raises InvalidRequest when it is none."""
    found = event.get(name) or {}
    if not isinstance(found, Mapping):
        raise InvalidRequest(f"the event's {name} must be an object")
    return {str(key): str(value) for key, value in found.items()}


def to_proxy(response: HttpResponse) -> dict[str, Any]:
    """Translate to ``{statusCode, headers, body, isBase64Encoded}``; what is not text becomes base64."""
    packed = not response.is_text
    if packed and len(response.body) > MAX_BINARY_BYTES:
        return to_proxy(_too_large(len(response.body)))
    return {
        "statusCode": response.status,
        "headers": dict(response.headers),
        "body": base64.b64encode(response.body).decode() if packed else response.body.decode(),
        "isBase64Encoded": packed,
    }


def _too_large(size: int) -> HttpResponse:
    sentence = (
        f"the response is {format_bytes(size)}; at most {format_bytes(MAX_BINARY_BYTES)} of bytes can be sent: "
        "ask for fewer outputs or smaller batches"
    )
    return error_response(PayloadTooLarge.status, sentence)
