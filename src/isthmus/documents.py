"""JSON documents: sizes checked before parsing, one clear sentence on failure, one canonical form.

A digest of a document is the SHA-256 of its canonical form: keys sorted, no white space, UTF-8,
defaults left out. Two uploads that mean the same thing have the same digest, however formatted.
"""

from __future__ import annotations

import hashlib
from typing import TypeVar

import msgspec

from isthmus.errors import InvalidDocument
from isthmus.model.units import MIB, format_bytes

T = TypeVar("T")

MAX_DOCUMENT_BYTES = 16 * MIB


def decode(kind: type[T], raw: bytes | str, what: str, *, max_bytes: int = MAX_DOCUMENT_BYTES) -> T:
    """Parse JSON into ``kind``.

    Raises:
        InvalidDocument: over ``max_bytes``, not JSON, nested too deep, or not of that schema; ``what`` names it.
    """
    if len(raw) > max_bytes:
        raise InvalidDocument(
            f"{what} is {format_bytes(len(raw))}; at most {format_bytes(max_bytes)} is read"
        )
    try:
        return msgspec.json.decode(raw, type=kind)
    except RecursionError as error:
        raise InvalidDocument(f"{what} is nested too deep to be read") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidDocument(f"{what} cannot be used: {error}") from error


def convert(kind: type[T], value: object, what: str) -> T:
    """Check a parsed value (YAML, a Lambda event, a table item) against ``kind``.

    Raises:
        InvalidDocument: it does not fit; ``what`` names it.
    """
    try:
        return msgspec.convert(value, type=kind)
    except msgspec.ValidationError as error:
        raise InvalidDocument(f"{what} cannot be used: {error}") from error


def encode(document: object) -> bytes:
    """Return the canonical JSON of a document.

    ``schema`` is always written, so that a reader of the file alone knows what it is.
    """
    value = msgspec.to_builtins(document)
    schema = getattr(document, "schema", None)
    if isinstance(value, dict) and schema is not None:
        value["schema"] = schema
    return msgspec.json.encode(value, order="sorted")


def digest(document: object) -> str:
    """Return the SHA-256 (hex) of the canonical form."""
    return sha256(encode(document))


def sha256(data: bytes) -> str:
    """Return the SHA-256 of bytes in hex."""
    return hashlib.sha256(data).hexdigest()
