"""Bodies and answers that are larger than Lambda carries: through the bucket, by addresses that the API gives.

What is exchanged stands in ``workflows/hand_over.py`` and docs/models-in-service.md.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Generator, Mapping
from typing import Any

import msgspec

from isthmus.client.place import Place
from isthmus.errors import InvalidAnswer, IsthmusError, Unavailable
from isthmus.inference.events import MAX_BINARY_BYTES
from isthmus.inference.http import JSON, HttpResponse

HEADER, ANSWER_HEADER, ALLOWED = "isthmus-handover", "isthmus-handover-answer", "allowed"
LARGE_BYTES = MAX_BINARY_BYTES
"""API Gateway passes a body on as base64: over this it is more than a function takes."""

Sent = Generator[Any, Any, HttpResponse | IsthmusError]
Sender = Callable[[Place, str, str, Mapping[str, str], bytes], Sent]


class Offer(msgspec.Struct, frozen=True):
    """Where to put a body, and the name by which to refer to it."""

    id: str
    method: str
    url: str
    headers: dict[str, str]


class Kept(msgspec.Struct, frozen=True):
    """Where an answer lies, what it must be, and the headers that it has."""

    url: str
    size_bytes: int
    sha256: str
    headers: dict[str, str]


class Told(msgspec.Struct, frozen=True):
    """The body of a 303."""

    handover: Kept


def put_body(
    send: Sender, place: Place, path: str, headers: Mapping[str, str], body: bytes
) -> Generator[Any, Any, dict[str, str] | HttpResponse | IsthmusError]:
    """Put a body into the store; return the headers of the request that refers to it, or what went wrong."""
    wish = {"size_bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    response = yield from send(place, "POST", path, {"content-type": JSON}, msgspec.json.encode(wish))
    if isinstance(response, IsthmusError) or response.status != 200:
        return response
    try:
        offer = msgspec.json.decode(response.body, type=Offer)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return InvalidAnswer(f"the {place.name} made no offer for a large body: {error}")
    put = yield from send(_at(place, offer.url), offer.method, "", offer.headers, body)
    if isinstance(put, IsthmusError):
        return put
    if put.status != 200:
        return Unavailable(f"the store of large bodies answered HTTP {put.status}")
    return {**headers, HEADER: offer.id}


def fetch_answer(send: Sender, place: Place, response: HttpResponse) -> Sent:
    """Return the answer that a 303 of ours points to, or what went wrong."""
    try:
        kept = msgspec.json.decode(response.body, type=Told).handover
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return InvalidAnswer(f"the {place.name} points to no answer: {error}")
    got = yield from send(_at(place, kept.url), "GET", "", {}, b"")
    if isinstance(got, IsthmusError):
        return got
    if got.status != 200:
        return Unavailable(f"the store of large answers answered HTTP {got.status}")
    if len(got.body) != kept.size_bytes or hashlib.sha256(got.body).hexdigest() != kept.sha256:
        return InvalidAnswer("the store of large answers gave other bytes than were put there")
    return HttpResponse(200, got.body, kept.headers)


def _at(place: Place, url: str) -> Place:
    # Its own signature is in the address: another one would be refused, and a token would be given away.
    return Place(place.name, functools.partial(str, url))
