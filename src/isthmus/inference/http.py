"""A request and a response without a transport: Lambda, the edge server and tests translate to these."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

JSON = "application/json"
BINARY = "application/octet-stream"
MAX_ERROR_CHARACTERS = 2000
"""Of a sentence that tells what was wrong: it may quote a request, which may be long."""


class HttpRequest(msgspec.Struct, frozen=True):
    """``path`` may be percent-encoded and carry a query; header names are compared without case."""

    method: str
    path: str
    headers: Mapping[str, str] = {}
    body: bytes = b""

    def header(self, name: str) -> str:
        """Return a header's value, or an empty string."""
        return next((value for key, value in self.headers.items() if key.lower() == name), "")

    @property
    def media_type(self) -> str:
        """The content type without its parameters, in lower case; empty when none is given."""
        return self.header("content-type").partition(";")[0].strip().lower()


class HttpResponse(msgspec.Struct, frozen=True):
    """``body`` is JSON, or what its content type says. ``fault``: of a broken bundle, what failed (``fault_of``); it is
    for a log, and no part of the answer."""

    status: int
    body: bytes
    headers: Mapping[str, str] = msgspec.field(default_factory=lambda: {"content-type": JSON})
    fault: str = ""

    @property
    def is_text(self) -> bool:
        """Whether the body is text, and not bytes that a text-only transport has to wrap."""
        return self.headers.get("content-type") != BINARY


def json_response(value: object, status: int = 200) -> HttpResponse:
    """Return ``value`` as JSON."""
    return HttpResponse(status, msgspec.json.encode(value))


def error_response(
    status: int, sentence: str, headers: Mapping[str, str] | None = None, *, fault: str = ""
) -> HttpResponse:
    """Return an Open Inference Protocol error: ``{"error": sentence}``, the sentence cut if it is long."""
    body = msgspec.json.encode({"error": sentence[:MAX_ERROR_CHARACTERS]})
    return HttpResponse(status, body, {"content-type": JSON, **(headers or {})}, fault)
