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
"""The proxy envelope (status and headers) counts against it too."""

FAULT = "fault"

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
    """Translate to ``{statusCode, headers, body, isBase64Encoded}``, and ``fault`` of a broken bundle; what is not text
    becomes base64.

    What Lambda cannot carry becomes a 413.
    """
    if not fits(response):
        return to_proxy(_too_large(response))
    packed = not response.is_text
    return {
        "statusCode": response.status,
        "headers": dict(response.headers),
        "body": base64.b64encode(response.body).decode() if packed else response.body.decode(),
        "isBase64Encoded": packed,
        **({FAULT: response.fault} if response.fault else {}),
    }


def fits(response: HttpResponse) -> bool:
    """Whether Lambda carries a response, whose body is a string within its JSON."""
    if not response.is_text:
        return len(response.body) <= MAX_BINARY_BYTES
    return _escaped_bytes(response.body) <= MAX_LAMBDA_BYTES - RESPONSE_ROOM_BYTES


def _escaped_bytes(text: bytes) -> int:
    # Bodies are JSON: what else would be escaped again is escaped in them already.
    return len(text) + text.count(b'"') + text.count(b"\\")


def _too_large(response: HttpResponse) -> HttpResponse:
    size, most, kind, ask = len(response.body), MAX_BINARY_BYTES, "bytes", "fewer outputs"
    if response.is_text:
        size, most = _escaped_bytes(response.body), MAX_LAMBDA_BYTES - RESPONSE_ROOM_BYTES
        kind, ask = "text, its quotes and backslashes counted twice,", "binary_data, fewer outputs"
    sentence = (
        f"the response is {format_bytes(size)}; at most {format_bytes(most)} of {kind} can be sent: "
        f"ask for {ask} or smaller batches"
    )
    return error_response(PayloadTooLarge.status, sentence)
