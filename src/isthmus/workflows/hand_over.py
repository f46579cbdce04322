"""Bodies over Lambda's limit come and go through the bucket, by presigned addresses: the router's side.

A caller asks ``POST /v2/models/<model>/handover`` for an *offer* with the body's size and SHA-256, puts
the body where the offer says, and then sends the inference request without a body and with the header
``Isthmus-Handover: <id>``; what other headers describe the body, describe it there too. With the
header ``Isthmus-Handover-Answer: allowed`` an answer that is too large comes as a 303 with an address.

S3 checks size and digest when the body is put, the model's function when it reads it; both are part of
the object's key with the time until which it is taken, so an id that somebody made up names nothing.
A body that is put twice lies under one name. By a lifecycle rule what is a day old expires, and its bytes,
a version that is no longer current, are removed when they were that for a day.
"""

from __future__ import annotations

import base64
import re
import uuid
from collections.abc import Mapping
from typing import Any

import msgspec

from isthmus.errors import InvalidRequest, PayloadTooLarge
from isthmus.inference.events import texts_of
from isthmus.inference.messages import Offer, Wish
from isthmus.model import layout
from isthmus.model.units import MIB
from isthmus.ports import Clock, Presigner

HEADER = "isthmus-handover"
"""Of a request whose body was put for an offer: the offer's id."""
ANSWER_HEADER = "isthmus-handover-answer"
"""Of a request whose answer may come through the bucket: ``allowed``."""
ALLOWED = "allowed"
MAX_BYTES = 64 * MIB
"""In either direction. A body, its arrays and the model share the function's memory."""
OFFER_SECONDS = 900
"""How long an address can be used, and a body be referred to."""
MAX_ASKED_BYTES = 4096
ASKED = 'handover is asked with {"size_bytes": …, "sha256": "…"} as JSON'
_ID = re.compile(r"(?P<until>[0-9]{10,12})-(?P<size>[0-9]{1,12})-(?P<sha256>[0-9a-f]{64})")


class HandOver:
    """Signs addresses; reads and writes nothing."""

    def __init__(self, presigner: Presigner, clock: Clock) -> None:
        self._presigner, self._clock = presigner, clock

    def offer(self, model: str, event: Mapping[str, Any]) -> Offer:
        """Offer a place for the body that the event's own, small body describes.

        Raises:
            InvalidRequest: it does not.
            PayloadTooLarge: over ``MAX_BYTES``.
        """
        wish = _wish(event)
        if not 0 < wish.size_bytes <= MAX_BYTES:
            raise PayloadTooLarge(
                f"a body of {wish.size_bytes:,} bytes cannot be handed over: 1 to {MAX_BYTES:,} can"
            )
        until = int(self._clock.now()) + OFFER_SECONDS
        name = f"{until}-{wish.size_bytes}-{wish.sha256}"
        key = layout.handed_in(model, name)
        grant = self._presigner.to_put(
            key, size_bytes=wish.size_bytes, sha256=wish.sha256, seconds=OFFER_SECONDS
        )
        headers = dict(grant.headers)
        return Offer(id=name, method="PUT", url=grant.url, headers=headers, expires_at=until)

    def passed(self, model: str, event: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return what the model's function is given for a request with one of the headers, else None.

        Raises:
            InvalidRequest: a header says what cannot be.
        """
        headers = {name.lower(): value for name, value in texts_of(event, "headers").items()}
        name, wish = headers.get(HEADER, ""), headers.get(ANSWER_HEADER, "")
        if not name and not wish:
            return None
        if wish not in ("", ALLOWED):
            raise InvalidRequest(f"{ANSWER_HEADER} must be {ALLOWED!r}, not {wish[:100]!r}")
        return {
            "body": self._body(model, name) if name else None,
            "place": self._place(model) if wish else None,
        }

    def _body(self, model: str, name: str) -> dict[str, Any]:
        found = _ID.fullmatch(name)
        if found is None:
            raise InvalidRequest(f"{HEADER} must be the id of an offer, not {name[:100]!r}")
        if int(found["until"]) < self._clock.now():
            raise InvalidRequest("the offer has expired: ask for another, and put the body again")
        url = self._presigner.to_get(layout.handed_in(model, name), seconds=OFFER_SECONDS)
        return {"url": url, "size_bytes": int(found["size"]), "sha256": found["sha256"]}

    def _place(self, model: str) -> dict[str, Any]:
        key = layout.handed_out(model, uuid.uuid4().hex)
        return {
            "put_url": self._presigner.to_put_any(key, seconds=OFFER_SECONDS),
            "get_url": self._presigner.to_get(key, seconds=OFFER_SECONDS),
            "expires_at": int(self._clock.now()) + OFFER_SECONDS,
        }


def _wish(event: Mapping[str, Any]) -> Wish:
    text = str(event.get("body") or "")
    if len(text) > MAX_ASKED_BYTES:
        raise InvalidRequest(ASKED)
    try:
        raw = base64.b64decode(text, validate=True) if event.get("isBase64Encoded") else text.encode()
        return msgspec.json.decode(raw, type=Wish)
    except ValueError as error:  # msgspec's are ValueErrors too
        raise InvalidRequest(f"{ASKED}: {error}") from error
