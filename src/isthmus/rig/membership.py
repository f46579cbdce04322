"""A rig's certificate from join to revocation: the registry's side and the disk's, in an order that may break off.

A certificate counts on this machine once ``identity.json`` names it, and is taken from the registry only when
another one counts. What a break leaves is a certificate that nobody holds a key of; ``isthmus destroy`` finds it.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from isthmus.device_keys import new_key
from isthmus.errors import InvalidInput, Refused
from isthmus.model.rig_identity import Certificate, RigIdentity
from isthmus.ports import Certificates
from isthmus.rig import certificate


class Enrolled(msgspec.Struct, frozen=True):
    """The identity in use; ``new`` when it has another certificate than before."""

    identity: RigIdentity
    new: bool


def enrol(folder: Path, registry: Certificates, *, rig: str, stack: str, region: str, alias: str) -> Enrolled:
    """Give this machine a certificate of the rig, unless it has one that is of use: joining again changes nothing."""
    endpoint = registry.endpoint()
    have = certificate.read(folder)
    if have is not None and (have.rig, have.stack, have.region) == (rig, stack, region):
        usable = {entry.id for entry in registry.of(rig) if entry.active}
        if have.certificate_id in usable and _has_files(folder):
            current = msgspec.structs.replace(have, endpoint=endpoint, alias=alias)
            certificate.point_to(folder, current)
            return Enrolled(current, new=False)
    blank = RigIdentity(
        rig=rig, stack=stack, region=region, endpoint=endpoint, alias=alias, certificate_id=""
    )
    return Enrolled(_issue(folder, registry, blank), new=True)


def rotate(folder: Path, registry: Certificates) -> tuple[RigIdentity, str]:
    """Put a new certificate in the place of this machine's; return the identity and the old certificate's id.

    The new one is in use before the old one is taken from the registry. An agent that runs goes on with the
    credentials that it has, and asks for its next with the new certificate.

    Raises:
        Refused: this machine has none.
    """
    have = certificate.read(folder)
    if have is None:
        raise Refused(f"{folder} holds no certificate; get one with `isthmus rig join`")
    old = [entry for entry in registry.of(have.rig) if entry.id == have.certificate_id]
    made = _issue(folder, registry, have)
    for entry in old:
        registry.remove(entry, have.rig)
    return made, have.certificate_id


def revoke(rig: str, registry: Certificates, chosen: str = "") -> list[Certificate]:
    """Make certificates of a rig useless: all that are active, or the one whose id begins so; return them.

    Nobody gets credentials with them from now on; those that were given out go on to their end.

    Raises:
        InvalidInput: several begin so.
        Refused: there is none that is active.
    """
    active = [entry for entry in registry.of(rig) if entry.active]
    found = [entry for entry in active if entry.id.startswith(chosen)]
    if chosen and len(found) > 1:
        raise InvalidInput(f"{len(found)} certificates of {rig} begin with {chosen}; give more of the id")
    if not found:
        have = ", ".join(entry.id[:12] for entry in active) or "none"
        raise Refused(f"{rig} has no active certificate {chosen or 'at all'}; active: {have}")
    for entry in found:
        registry.deactivate(entry)
    return [msgspec.structs.replace(entry, active=False) for entry in found]


def _has_files(folder: Path) -> bool:
    proof = certificate.proof(folder)
    return proof is not None and proof.certificate.is_file() and proof.key.is_file()


def _issue(folder: Path, registry: Certificates, identity: RigIdentity) -> RigIdentity:
    folder.mkdir(parents=True, exist_ok=True)
    key, request = new_key(identity.rig)
    entry, pem = registry.issue(identity.rig, request)
    made = msgspec.structs.replace(identity, certificate_id=entry.id)
    certificate.keep(folder, made, key, pem)
    return made
