"""A file that is sent as what changed of an earlier one: its chunks, and how it is put together (docs/adr/0024)."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from isthmus.model.blob import Name, Sha256, SizeBytes

MAX_PIECES = 200_000


class Chunks(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where a file is cut. ``digests``: the first 16 bytes of each chunk's SHA-256, one after the other; ``sizes``: in
    bytes, four each, little-endian. As MessagePack."""

    schema: Literal["isthmus/chunks/1"] = "isthmus/chunks/1"
    digests: bytes
    sizes: bytes


class Piece(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The bytes ``[start, stop)`` of ``Recipe.sources[source]``."""

    source: Annotated[int, msgspec.Meta(ge=0)]
    start: SizeBytes
    stop: SizeBytes


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A file as pieces of others, in order. ``sources`` are digests of the dataset's own blobs; ``pack`` is the digest
    of the bytes that are new, the source after them."""

    schema: Literal["isthmus/recipe/1"] = "isthmus/recipe/1"
    dataset: Name
    sha256: Sha256
    size_bytes: SizeBytes
    sources: Annotated[tuple[Sha256, ...], msgspec.Meta(max_length=16)]
    pack: Sha256
    pieces: Annotated[tuple[Piece, ...], msgspec.Meta(max_length=MAX_PIECES)]


class Latest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The manifest that was pushed last: where to look for a file's earlier version. A hint, no more."""

    schema: Literal["isthmus/latest/1"] = "isthmus/latest/1"
    manifest: Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
