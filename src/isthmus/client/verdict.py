"""What an answer other than success means, as an error of ours in one sentence."""

from __future__ import annotations

import re

import msgspec

from isthmus.client.answer import Where
from isthmus.errors import (
    InvalidAnswer,
    InvalidRequest,
    IsthmusError,
    PayloadTooLarge,
    PermissionMissing,
    Throttled,
    Unavailable,
    UnknownModel,
    UnsupportedMediaType,
)
from isthmus.inference.http import HttpResponse
from isthmus.inference.messages import ServerMetadata
from isthmus.model.permission import missing_permission

LONGEST_SENTENCE = 1000
_NOT_NOW = (401, 403, 429)
_REFUSALS: dict[int, type[InvalidRequest]] = {
    404: UnknownModel,
    413: PayloadTooLarge,
    415: UnsupportedMediaType,
}


def header(response: HttpResponse, name: str) -> str:
    """Return a header's value, or an empty string; ``name`` in lower case."""
    return next((value for key, value in response.headers.items() if key.lower() == name), "")


def lost(place: Where, reason: str) -> Unavailable:
    """Return the error for a request that nobody answered."""
    return Unavailable(f"the {place} did not answer: {reason}")


def trouble(place: Where, response: HttpResponse) -> Unavailable:
    """Return the error for an answer after which the same request may be sent again."""
    kind = Throttled if response.status == 429 else Unavailable
    return kind(_sentence(place, response))


def refusal(place: Where, response: HttpResponse) -> IsthmusError:
    """Return the error for an answer after which it may not."""
    if response.status in (401, 403):
        told = _told(response)
        return PermissionMissing(missing_permission(told) or _sentence(place, response))
    if 400 <= response.status < 500:
        return _REFUSALS.get(response.status, InvalidRequest)(_sentence(place, response))
    return InvalidAnswer(_sentence(place, response))


def pause_asked(response: HttpResponse) -> float:
    """Return the seconds of ``Retry-After``; 0 without one, or for a date (RFC 9110, 10.2.3, allows both)."""
    value = header(response, "retry-after").strip()
    return float(value) if re.fullmatch(r"\d{1,6}", value) else 0.0


def extensions_of(response: HttpResponse) -> frozenset[str] | None:
    """Return the extensions that a server's metadata names, none where it has no metadata.

    None: the answer says nothing that lasts (too busy, broken, not allowed); another time it may be another.
    """
    status = response.status
    if status != 200:
        return frozenset() if 400 <= status < 500 and status not in _NOT_NOW else None
    try:
        return frozenset(msgspec.json.decode(response.body, type=ServerMetadata).extensions)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return frozenset()


def _sentence(place: Where, response: HttpResponse) -> str:
    told = _told(response)
    return f"the {place} answered HTTP {response.status}" + (f": {told}" if told else "")


def _told(response: HttpResponse) -> str:
    """Return the sentence in a body: the protocol's ``error``, or the gateway's ``message``."""
    try:
        body = msgspec.json.decode(response.body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    if not isinstance(body, dict):
        return ""
    told = next(
        (body[name] for name in ("error", "message", "Message") if isinstance(body.get(name), str)), ""
    )
    return str(told)[:LONGEST_SENTENCE]
