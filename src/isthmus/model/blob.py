"""A reference to bytes in the bucket: where they are and what they must be."""

from __future__ import annotations

from typing import Annotated

import msgspec

# Python's `$` is also before a last line feed, and JSON schemas have no other end: hence the length here, and
# what may not follow below.
Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$", max_length=64)]
SizeBytes = Annotated[int, msgspec.Meta(ge=0)]
Key = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9-]{0,39}(?!\n)$")]
"""A dataset's, model's or rig's name: it becomes part of function, component and job names."""


class BlobRef(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Bytes at ``key`` of the data bucket, with their SHA-256 (hex) and size."""

    key: Key
    sha256: Sha256
    size_bytes: SizeBytes
