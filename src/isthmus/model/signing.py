"""What is signed beside bundles: which keys a device trusts from now on, and that an old bundle is a new release."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from isthmus.model.blob import Name, Sha256

MAX_KEYS = 8
MAX_CHAIN = 16
"""Key documents that a device is handed, one after the other."""


class Signed(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A document with its signatures, by the SHA-256 (hex) of each signer's key in DER.

    ``payload``: the document's bytes exactly as they were signed, so that nothing of it is parsed before a signature
    was found good (as in DSSE, github.com/secure-systems-lab/dsse). Bytes are base64 in JSON.
    """

    payload: bytes
    signatures: dict[Sha256, bytes]


class KeyDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The keys that bundles may be signed by, all of them: a key that is not named is trusted no more.

    ``version`` rises. Keys are DER SubjectPublicKeyInfo of P-256. Signed by a key that was trusted before and by one
    that it names (The Update Framework, specification 5.3, with a threshold of one).
    """

    schema: Literal["isthmus/keys/1"] = "isthmus/keys/1"
    version: Annotated[int, msgspec.Meta(ge=1)]
    keys: Annotated[tuple[bytes, ...], msgspec.Meta(min_length=1, max_length=MAX_KEYS)]


class ReleaseDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A bundle, by its manifest's SHA-256, is this release of its model.

    A rollback is a new release of an old bundle.
    """

    schema: Literal["isthmus/release/1"] = "isthmus/release/1"
    model: Name
    release: Annotated[int, msgspec.Meta(ge=1)]
    bundle: Sha256
