"""Bytes at addresses: of other people's servers, and of objects by presigned ones.

Certificates are verified, and no redirect is followed.
"""

from __future__ import annotations

from typing import Any

from isthmus.errors import MissingFile, Unavailable
from isthmus.model.units import KIB

MAX_DOCUMENT_BYTES = 256 * KIB
DOCUMENT_SECONDS = 3.0
OBJECT_SECONDS = 20.0
MISSING = (403, 404)
"""S3's answers for a missing object: the first to whom may not list the bucket (S3 API reference, GetObject)."""


def fetch(url: str) -> bytes:
    """Return a small document.

    Raises:
        Unavailable: it is not to be had, or is more than ``MAX_DOCUMENT_BYTES``.
    """
    status, data = _request("GET", url, DOCUMENT_SECONDS, MAX_DOCUMENT_BYTES)
    if status != 200 or len(data) > MAX_DOCUMENT_BYTES:
        raise Unavailable(f"{url} answered {status} with {len(data)} bytes or more")
    return data


class Objects:
    """``inference.handover.Transport``. An address is a secret for its while: no message quotes one."""

    def get(self, url: str, *, max_bytes: int) -> bytes:
        status, data = _request("GET", url, OBJECT_SECONDS, max_bytes)
        if status in MISSING:
            raise MissingFile("there is no such object")
        if status != 200:
            raise Unavailable(f"the store answered {status}")
        return data

    def put(self, url: str, data: bytes) -> None:
        status, _ = _request("PUT", url, OBJECT_SECONDS, MAX_DOCUMENT_BYTES, data)
        if status != 200:
            raise Unavailable(f"the store answered {status}")


def _request(
    method: str, url: str, seconds: float, max_bytes: int, data: bytes | None = None
) -> tuple[int, bytes]:
    """Return the status and up to one byte more than ``max_bytes`` of the answer's body."""
    import urllib3

    sent: dict[str, Any] = {} if data is None else {"body": data}
    retries = urllib3.Retry(1, redirect=0)
    try:
        with urllib3.PoolManager(timeout=seconds, retries=retries) as pool:
            answer = pool.request(method, url, redirect=False, preload_content=False, **sent)
            with answer:
                return answer.status, bytes(answer.read(max_bytes + 1))
    except urllib3.exceptions.HTTPError as error:
        raise Unavailable(f"an address could not be reached: {type(error).__name__}") from error
