"""Shows every request of this process's clients, right before it goes out, to who counts or refuses it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

from isthmus.adapters.aws.session import client
from isthmus.model.crossing import Sent

EVENT = "before-send"
"""Of every attempt, also those that botocore repeats (botocore, ``endpoint.py``, ``_do_get_response``); an exception of
a handler is raised by the call."""


def watch(see: Callable[[Sent], None]) -> Callable[[], None]:
    """From now on, let ``see`` see requests first; what it raises, the call raises. Returned is what ends that."""

    def before_send(request: Any, event_name: str, **_: Any) -> None:
        see(sent(request, event_name))

    return client.watch(EVENT, before_send)


def sent(request: Any, event_name: str) -> Sent:
    """Read botocore's prepared request; ``event_name``: ``before-send.SERVICE.OPERATION``."""
    _, service, operation = event_name.split(".", 2)
    body = request.body
    is_object = service == "s3"
    return Sent(
        service=service,
        operation=operation,
        name=unquote(urlsplit(request.url).path) if is_object else "",
        size_bytes=_size(request),
        body=_plain(body) if not is_object else b"",
    )


def _size(request: Any) -> int:
    """Return the content's length; chunks' own framing, where S3 has it, is not counted."""
    headers = request.headers
    length = headers.get("X-Amz-Decoded-Content-Length") or headers.get("Content-Length")
    if length is not None:
        return int(length)
    return len(_plain(request.body)) if request.body is None or _is_plain(request.body) else -1


def _is_plain(body: Any) -> bool:
    return isinstance(body, str | bytes | bytearray)


def _plain(body: Any) -> bytes:
    if isinstance(body, str):
        return body.encode()
    return bytes(body) if isinstance(body, bytes | bytearray) else b""
