"""``Presigner`` in memory: ``put`` and ``get`` do what S3 does with a request to such an address."""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Mapping

from isthmus.errors import PolicyViolation
from isthmus.ports import BlobStore, Grant


class MemoryPresigner:
    """Addresses of objects in ``blobs``; they do not expire."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._puts: dict[str, tuple[str, Grant | None]] = {}
        self._gets: dict[str, str] = {}

    def to_put(self, key: str, *, size_bytes: int, sha256: str, seconds: int) -> Grant:
        checksum = base64.b64encode(bytes.fromhex(sha256)).decode()
        url = f"https://store.invalid/{key}?signature={secrets.token_hex(8)}"
        grant = Grant(url, {"content-length": str(size_bytes), "x-amz-checksum-sha256": checksum})
        self._puts[url] = (key, grant)
        return grant

    def to_put_any(self, key: str, *, seconds: int) -> str:
        url = f"https://store.invalid/{key}?signature={secrets.token_hex(8)}"
        self._puts[url] = (key, None)
        return url

    def to_get(self, key: str, *, seconds: int) -> str:
        url = f"https://store.invalid/{key}?signature={secrets.token_hex(8)}"
        self._gets[url] = key
        return url

    def put(self, url: str, data: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Raises PolicyViolation where S3 answers 4xx: other headers than were signed, or other bytes."""
        key, grant = self._puts[url]
        if grant is not None:
            sent = {**(headers or {}), "content-length": str(len(data))}
            sum_of = base64.b64encode(hashlib.sha256(data).digest()).decode()
            if sent != dict(grant.headers) or sum_of != grant.headers["x-amz-checksum-sha256"]:
                raise PolicyViolation("the bytes or the headers are not those that were signed")
        self._blobs.put(key, data)

    def get(self, url: str, *, max_bytes: int = 1 << 30) -> bytes:
        """Return the object, one byte more than ``max_bytes`` at most. Raises MissingFile."""
        return self._blobs.get(self._gets[url], max_bytes=1 << 30)[: max_bytes + 1]
