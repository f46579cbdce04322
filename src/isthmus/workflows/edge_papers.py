"""What devices are handed beside a bundle: the keys that they may trust, and that an old bundle is a new release."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import msgspec

from isthmus import documents
from isthmus.errors import InvalidInput, SignatureInvalid
from isthmus.inference.signed import is_signed_by, key_id, read_envelope, seal
from isthmus.model import layout
from isthmus.model.signing import MAX_CHAIN, KeyDocument, ReleaseDocument

if TYPE_CHECKING:
    from isthmus.ports import Records, Signer

EDGE, KEYS = "EDGE", "KEYS"


def key_chain(records: Records) -> str:
    """Return the stack's key documents as devices take them, a JSON array, the oldest first; empty: there are none."""
    chain = (records.get(EDGE, KEYS) or {}).get("chain", [])
    return f"[{','.join(chain)}]" if chain else ""


class KnownKeys(msgspec.Struct, frozen=True, kw_only=True):
    """A key document: its version, and the SHA-256 (hex) of each key that it names."""

    version: int
    keys: list[str]


def known_keys(records: Records) -> list[KnownKeys]:
    """Return the stack's key documents, the oldest first.

    Raises:
        SignatureInvalid: one on record cannot be read.
    """
    chain = (records.get(EDGE, KEYS) or {}).get("chain", [])
    found = [_document_of(raw) for raw in chain]
    return [KnownKeys(version=entry.version, keys=[key_id(key) for key in entry.keys]) for entry in found]


def rotate_keys(
    named: Sequence[bytes], signers: Collection[Signer], records: Records, *, pinned: bytes
) -> KeyDocument:
    """Write the next key document: from now on bundles may be signed by ``named`` (DER) alone. Devices get it with the
    next deployment. ``pinned`` (DER): what they trust before the first one.

    Raises:
        InvalidInput: no signer is among the keys of before, none is among the new ones, or the chain is full.
        Conflict: somebody else rotated at the same time.
    """
    item = records.get(EDGE, KEYS) or {}
    chain = list(item.get("chain", []))
    if len(chain) >= MAX_CHAIN:
        raise InvalidInput(
            f"devices read {MAX_CHAIN} key documents, and the stack has as many: no key can be introduced any more"
        )
    document = KeyDocument(version=int(item.get("version", 0)) + 1, keys=tuple(named))
    raw = seal(document, signers)
    signed = read_envelope(raw, "the key document")
    before = _keys_of(chain[-1]) if chain else {key_id(pinned): pinned}
    if not is_signed_by(signed, before):
        raise InvalidInput(
            "devices follow a key that they trust: sign with one of the keys of the last document too"
        )
    if not is_signed_by(signed, {key_id(key): key for key in named}):
        raise InvalidInput("one of the new keys must sign too: it shows that its owner has it")
    values = {"chain": [*chain, raw.decode()], "version": document.version}
    records.update(EDGE, KEYS, values, expect={"version": item.get("version")})
    return document


def release_paper(model: str, version: str, release: int, records: Records, signer: Signer) -> str:
    """Return the signed document that makes the bundle of a component version this release; empty: the bundle of that
    version is not on record."""
    published = records.get(layout.model_pk(model), layout.release_sk(int(version.split(".", 1)[0])))
    if published is None:
        return ""
    document = ReleaseDocument(model=model, release=release, bundle=published["bundle"])
    return seal(document, [signer]).decode()


def _keys_of(raw: str) -> dict[str, bytes]:
    return {key_id(key): key for key in _document_of(raw).keys}


def _document_of(raw: str) -> KeyDocument:
    payload = read_envelope(raw.encode(), "the last key document").payload
    try:
        return documents.decode(KeyDocument, payload, "the last key document")
    except msgspec.DecodeError as error:
        raise SignatureInvalid(f"the last key document on record cannot be read: {error}") from error
