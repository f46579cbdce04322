"""Requests in captured connections: HTTP/1.1 as RFC 9112 frames it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Request:
    """``target``: as in the request line. ``body``: without chunks' framing."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


def requests(data: bytes) -> Iterator[Request]:
    """Yield the requests of one connection. A last one that is not whole is yielded as far as it goes."""
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        line, *fields = head.decode("latin-1").split("\r\n")
        method, target, _ = line.split(" ", 2)
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (entry.partition(":") for entry in fields)
        }
        if headers.get("transfer-encoding", "").lower() == "chunked":
            body, data = _chunked(data)
        else:
            size = int(headers.get("content-length", 0))
            body, data = data[:size], data[size:]
        if "aws-chunked" in headers.get("content-encoding", ""):
            body, _ = _chunked(body)
        yield Request(method, target, headers, body)


def _chunked(data: bytes) -> tuple[bytes, bytes]:
    """Join chunks; what follows a chunk's size after ``;`` is a signature, or nothing. Trailers are left out."""
    parts = []
    while data:
        line, _, data = data.partition(b"\r\n")
        size = int(line.split(b";")[0], 16)
        if not size:
            while data and not data.startswith(b"\r\n"):
                _, _, data = data.partition(b"\r\n")
            return b"".join(parts), data[2:]
        parts.append(data[:size])
        data = data[size + 2 :]
    return b"".join(parts), data
