"""Signed documents: sealed by signers, and read only after a signature of a trusted key was found good."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from isthmus import documents
from isthmus.errors import SignatureInvalid
from isthmus.inference.bundle import read_signed_manifest, verify_signature
from isthmus.model.signing import Signed
from isthmus.model.units import KIB

if TYPE_CHECKING:
    from isthmus.ports import Signer

T = TypeVar("T")
MAX_SIGNED_BYTES = 64 * KIB


def key_id(public_key_der: bytes) -> str:
    """Return the name of a key: the SHA-256 (hex) of its DER SubjectPublicKeyInfo."""
    return hashlib.sha256(public_key_der).hexdigest()


def seal(document: msgspec.Struct, signers: Collection[Signer]) -> bytes:
    """Return the document with a signature of each signer, as JSON."""
    payload = documents.encode(document)
    digest = hashlib.sha256(payload).digest()
    signatures = {key_id(signer.public_key()): signer.sign(digest) for signer in signers}
    return documents.encode(Signed(payload=payload, signatures=signatures))


def read_envelope(raw: bytes, what: str) -> Signed:
    """Return a signed document's bytes and signatures, none of them checked.

    Raises:
        InvalidDocument: it is no signed document, or over ``MAX_SIGNED_BYTES``; ``what`` names it.
    """
    return documents.decode(Signed, raw, what, max_bytes=MAX_SIGNED_BYTES)


def is_signed_by(signed: Signed, keys: Mapping[str, bytes]) -> bool:
    """Return whether one of the keys (by ``key_id``, DER) signed it."""
    for name in signed.signatures.keys() & keys.keys():
        try:
            verify_signature(signed.payload, signed.signatures[name], keys[name])
        except SignatureInvalid:
            continue
        return True
    return False


def open_signed(kind: type[T], signed: Signed, keys: Mapping[str, bytes], what: str) -> T:
    """Parse a signed document, once one of the keys is found to have signed it.

    Raises:
        SignatureInvalid: none of them did.
        InvalidDocument: it does not fit its schema.
    """
    if not is_signed_by(signed, keys):
        raise SignatureInvalid(f"{what} must be signed by a key that is trusted here; it is by none of them")
    return documents.decode(kind, signed.payload, what, max_bytes=MAX_SIGNED_BYTES)


def signer_of(folder: Path, keys: Mapping[str, bytes]) -> str:
    """Return which of the keys (by ``key_id``, DER) signed the bundle in a folder; empty: none of them.

    Raises:
        InvalidModel: it has no manifest or no signature, or one is too large.
    """
    manifest, signature = read_signed_manifest(folder)
    for name, key in keys.items():
        try:
            verify_signature(manifest, signature, key)
        except SignatureInvalid:
            continue
        return name
    return ""
