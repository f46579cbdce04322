"""A model's side of bodies that are larger than Lambda carries: fetched and put by addresses from the router.

A model's function has no right to anything: each address that it is given is for one object of one
request. The protocol's own rules are untouched: a body is the same bytes, whichever way it came.
What a caller does stands in ``workflows/hand_over.py``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Protocol

import msgspec
from msgspec.structs import replace

from isthmus.errors import InvalidRequest, MissingFile, PayloadTooLarge, Unavailable
from isthmus.inference.events import fits, to_proxy, to_request
from isthmus.inference.http import HttpRequest, HttpResponse, error_response, json_response
from isthmus.inference.service import ModelService
from isthmus.model.units import format_bytes


class Body(msgspec.Struct, frozen=True):
    """A request's body that lies at ``url``, and what it must be."""

    url: str
    size_bytes: int
    sha256: str


class Place(msgspec.Struct, frozen=True):
    """Where an answer may be put, and where its caller can fetch it until ``expires_at`` (UTC seconds)."""

    put_url: str
    get_url: str
    expires_at: int


class Passed(msgspec.Struct, frozen=True):
    """What the router adds to an event."""

    body: Body | None = None
    place: Place | None = None


class Transport(Protocol):
    """Moves bytes to and from addresses."""

    def get(self, url: str, *, max_bytes: int) -> bytes:
        """Raises MissingFile, Unavailable."""

    def put(self, url: str, data: bytes) -> None:
        """Raises Unavailable."""


def answer_handed_over(
    event: Mapping[str, Any], service: ModelService, transport: Transport, *, max_bytes: int
) -> dict[str, Any]:
    """Answer an event of the router that has a ``handover``; no more than ``max_bytes`` go either way."""
    passed = msgspec.convert(event["handover"], Passed)
    try:
        request = to_request(event)
        if passed.body is not None:
            request = replace(request, body=_fetched(request, passed.body, transport, max_bytes))
        large = ModelService(
            service.models.values(), max_request_bytes=max_bytes, max_response_bytes=max_bytes
        )
        response = large.handle(request)
        if passed.place is not None and response.status == 200 and not fits(response):
            response = _kept(response, passed.place, transport)
    except InvalidRequest as error:
        response = error_response(error.status, str(error))
    except Unavailable:
        response = error_response(503, "the store of large bodies did not answer; try again")
    return to_proxy(response)  # what does not fit, and has no place, is refused here as ever


def _fetched(request: HttpRequest, body: Body, transport: Transport, max_bytes: int) -> bytes:
    if request.body:
        raise InvalidRequest("a request whose body was handed over has none of its own")
    if body.size_bytes > max_bytes:
        raise PayloadTooLarge(
            f"the body is {format_bytes(body.size_bytes)}; this model takes {format_bytes(max_bytes)}"
        )
    try:
        data = transport.get(body.url, max_bytes=body.size_bytes)
    except MissingFile as error:
        raise InvalidRequest("nothing was put where the offer says: put the body first") from error
    if len(data) != body.size_bytes or hashlib.sha256(data).hexdigest() != body.sha256:
        raise InvalidRequest("what was put there has not the size and SHA-256 that the offer was asked for")
    return data


def _kept(response: HttpResponse, place: Place, transport: Transport) -> HttpResponse:
    transport.put(place.put_url, response.body)
    kept = {
        "url": place.get_url,
        "size_bytes": len(response.body),
        "sha256": hashlib.sha256(response.body).hexdigest(),
        "expires_at": place.expires_at,
        "headers": dict(response.headers),
    }
    answer = json_response({"handover": kept}, 303)
    return replace(answer, headers={**answer.headers, "location": place.get_url})
