"""What a model store trusts, and how far it has come: keys, the model's name, the highest release.

It is one file, ``trust.json``, replaced as a whole. The first start pins the key that the core was told; from then on
key documents alone change the keys, each signed by a key that was trusted until then (The Update Framework, 5.3: how
a client follows its root of trust). Whoever removes the file lets the next start pin anew.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from isthmus import documents
from isthmus.durable import write_durably
from isthmus.errors import InvalidDocument, IsthmusError, ReleaseOutdated, SignatureInvalid
from isthmus.inference.bundle import Bundle, check_key, open_bundle
from isthmus.inference.signed import is_signed_by, key_id, open_signed, read_envelope, signer_of
from isthmus.model.blob import Sha256
from isthmus.model.signing import MAX_CHAIN, KeyDocument, ReleaseDocument

TRUST_FILE = "trust.json"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Papers:
    """What came with an artifact beside it: key documents, the oldest first, and a release document, or none."""

    keys: Sequence[bytes] = ()
    release: bytes = b""


NO_PAPERS = Papers()


class Trust(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``keys`` may sign; ``former`` ones may not any more, and still tell what was committed from what is damaged.

    ``version``: of the last key document; 0 before the first. ``release``, ``model``, ``artifact``, ``bundle`` (its
    manifest's digest), ``signer``, ``place``: of what was committed last, the release being the highest ever.
    ``chain``: the digest of the key documents that were followed last.
    """

    schema: Literal["isthmus/trust/1"] = "isthmus/trust/1"
    version: int = 0
    keys: dict[Sha256, bytes]
    former: dict[Sha256, bytes] = {}
    model: str = ""
    release: int = 0
    artifact: str = ""
    bundle: str = ""
    signer: str = ""
    place: str = ""
    chain: str = ""

    def following(self, chain: Sequence[bytes]) -> Trust:
        """Return the trust after the key documents of a chain, the oldest first; those that are known change nothing.

        Raises:
            SignatureInvalid: the last does not lead on from the keys that are trusted, or names none that signed it.
            InvalidDocument: one does not fit its schema, or there are too many.
        """
        if len(chain) > MAX_CHAIN:
            raise InvalidDocument(f"{len(chain)} key documents came; at most {MAX_CHAIN} are read")
        trust, leads, digest = self, True, hashlib.sha256(b"\n".join(chain)).hexdigest()
        if digest == self.chain or not chain:
            return self
        for raw in chain:
            found = trust._after(raw)
            trust, leads = found or trust, found is not None
        if not leads:
            raise SignatureInvalid(
                f"no key that is trusted here signed the last key document; trusted are {_names(self.keys)}"
            )
        return msgspec.structs.replace(trust, chain=digest)

    def _after(self, raw: bytes) -> Trust | None:
        """Return the trust after one key document; None: no trusted key signed it, as with one long past."""
        signed = read_envelope(raw, "a key document")
        if not is_signed_by(signed, self.keys):
            return None
        document = open_signed(KeyDocument, signed, self.keys, "a key document")
        if document.version <= self.version:
            return self
        named = {key_id(key): key for key in document.keys}
        for key in named.values():
            check_key(key)
        if not is_signed_by(signed, named):
            raise SignatureInvalid("a key document must also be signed by a key that it names; it is by none")
        former = {name: key for name, key in {**self.former, **self.keys}.items() if name not in named}
        return msgspec.structs.replace(self, version=document.version, keys=named, former=former)

    def open(self, folder: Path) -> Bundle:
        """Verify a bundle that arrived, by the trusted keys.

        Raises:
            SignatureInvalid, InvalidModel, InvalidDocument, DigestMismatch: as ``open_bundle``.
        """
        name = signer_of(folder, {**self.keys, **self.former})
        if not name:
            raise SignatureInvalid(
                f"no key that is trusted here signed the bundle; trusted are {_names(self.keys)}"
            )
        if name in self.former:
            raise SignatureInvalid(f"the bundle is signed by {name[:12]}, which is trusted no more")
        return open_bundle(folder, self.keys[name])

    def open_committed(self, folder: Path) -> Bundle:
        """Verify a bundle that was committed: whoever signed it was trusted then.

        Its manifest must have the digest that was noted beside the keys, which then stands for the signature: it was
        checked before it was noted, and who can change the one can change the others.

        Raises:
            As ``open``.
        """
        if self.bundle and folder.name == self.artifact:
            return open_bundle(folder, None, sha256=self.bundle)
        keys = {**self.keys, **self.former}
        name = signer_of(folder, keys)
        if not name:
            raise SignatureInvalid(
                f"no key that is or was trusted here signed what was committed: {_names(keys)}"
            )
        return open_bundle(folder, keys[name])

    @property
    def is_signer_former(self) -> bool:
        """Whether what is in service was signed by a key that is trusted no more."""
        return self.signer in self.former

    def release_of(self, bundle: Bundle, paper: bytes) -> int:
        """Return which release a bundle is: as its manifest says, or a later one that a release document makes it.

        Raises:
            SignatureInvalid, InvalidDocument: the document is not to be believed.
        """
        release = bundle.manifest.release
        if not paper:
            return release
        signed = read_envelope(paper, "a release document")
        document = open_signed(ReleaseDocument, signed, self.keys, "a release document")
        if (document.model, document.bundle) != (bundle.manifest.model, bundle.sha256):
            return release
        return max(release, document.release)

    def check(self, bundle: Bundle, release: int, artifact: str) -> None:
        """See that a bundle is of this store's model, and no earlier than what was committed, unless it is just that.

        Raises:
            ReleaseOutdated: it is earlier.
            SignatureInvalid: it is of another model: signed, but not for this place.
        """
        if self.model and bundle.manifest.model != self.model:
            raise SignatureInvalid(
                f"the bundle is of the model {bundle.manifest.model}; this store is of {self.model}"
            )
        if release < self.release and artifact != self.artifact:
            raise ReleaseOutdated(
                f"release {release} is earlier than {self.release}, which was in service here; "
                "to go back, make a new release of the old bundle"
            )

    def committing(self, bundle: Bundle, release: int, artifact: str, place: str) -> Trust:
        """Return the trust once that bundle is in service."""
        is_same = (self.artifact, self.bundle) == (artifact, bundle.sha256)
        signer = self.signer if is_same else signer_of(bundle.folder, {**self.keys, **self.former})
        return msgspec.structs.replace(
            self,
            signer=signer,
            model=bundle.manifest.model,
            release=max(self.release, release),
            artifact=artifact,
            bundle=bundle.sha256,
            place=place,
        )


def read_trust(root: Path, public_key_der: bytes) -> Trust:
    """Return what the store trusts; at its first start, the key that the core was told."""
    path = root / TRUST_FILE
    if path.is_file():
        try:
            return documents.decode(Trust, path.read_bytes(), TRUST_FILE)
        except IsthmusError as error:
            # No loss of power leaves it so: the disk is failing. A device that serves nothing helps nobody.
            logger.error("%s is damaged; the key that the core was told is pinned anew: %s", path, error)
    return Trust(keys={key_id(public_key_der): public_key_der})


def write_trust(root: Path, trust: Trust) -> None:
    """Keep it, for the next start too."""
    write_durably(root / TRUST_FILE, documents.encode(trust))


def _names(keys: Mapping[str, bytes]) -> str:
    return ", ".join(name[:12] for name in sorted(keys))
