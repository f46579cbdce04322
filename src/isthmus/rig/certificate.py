"""A rig's certificate and key on its own disk.

``identity.json`` says which certificate is in use, and is replaced at once when another is: an agent that
runs reads it again whenever it needs credentials. The key is made here and never leaves the machine; only a
request for a certificate does. Files are the owner's alone (0600 in 0700).
"""

from __future__ import annotations

import datetime
import os
import shutil
from pathlib import Path

from isthmus import documents
from isthmus.device_keys import give, write_private
from isthmus.model.rig_identity import Proof, RigIdentity
from isthmus.rig.identity import of_this_user

FILE = "identity.json"
CERTIFICATES = "certificates"


def read(folder: Path) -> RigIdentity | None:
    """Return the identity in use, or None when the folder holds none.

    Raises:
        InvalidDocument: the file was written by something else.
        EnvironmentProblem: it is another user's.
    """
    try:
        with of_this_user(folder / FILE):
            raw = (folder / FILE).read_bytes()
    except FileNotFoundError:
        return None
    return documents.decode(RigIdentity, raw, str(folder / FILE))


def proof(folder: Path) -> Proof | None:
    """Return the identity in use with its files, or None."""
    found = read(folder)
    if found is None:
        return None
    place = folder / CERTIFICATES / found.certificate_id
    return Proof(found, place / "certificate.pem", place / "private.key")


def keep(folder: Path, identity: RigIdentity, key: bytes, certificate: str) -> None:
    """Write a certificate with its key, then say that it is in use; the files of others go after that."""
    place = folder / CERTIFICATES / identity.certificate_id
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    for path in (place.parent, place):
        path.chmod(0o700)
        give(path, folder)
    write_private(place / "private.key", key, folder)
    write_private(place / "certificate.pem", certificate.encode("ascii"), folder)
    point_to(folder, identity)
    for other in place.parent.iterdir():
        if other != place:
            shutil.rmtree(other)


def point_to(folder: Path, identity: RigIdentity) -> None:
    """Say which identity is in use; its files are there."""
    temporary = folder / f"{FILE}.new"
    write_private(temporary, documents.encode(identity), folder)
    os.replace(temporary, folder / FILE)


def expires(certificate: Path) -> datetime.datetime:
    """Return when a certificate ends (X.509 ``notAfter``), in UTC."""
    from cryptography import x509

    return x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
