"""A request and a response without a transport: Lambda, the edge server and tests translate to these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

JSON = "application/json"


@dataclass(frozen=True)
class HttpRequest:
    """``path`` may be percent-encoded and carry a query; header names are compared without case."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def header(self, name: str) -> str:
        """Return a header's value, or an empty string."""
        return next((value for key, value in self.headers.items() if key.lower() == name), "")


@dataclass(frozen=True)
class HttpResponse:
    """``body`` is JSON."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=lambda: {"content-type": JSON})


def json_response(value: object, status: int = 200) -> HttpResponse:
    """Return ``value`` as JSON."""
    return HttpResponse(status, msgspec.json.encode(value))


def error_response(status: int, sentence: str, headers: Mapping[str, str] | None = None) -> HttpResponse:
    """Return an Open Inference Protocol error: ``{"error": sentence}``."""
    body = msgspec.json.encode({"error": sentence})
    return HttpResponse(status, body, {"content-type": JSON, **(headers or {})})
