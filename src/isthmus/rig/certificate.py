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
from isthmus.errors import EnvironmentProblem
from isthmus.model.rig_identity import Proof, RigIdentity
from isthmus.rig.identity import of_this_user

FILE = "identity.json"
CERTIFICATES = "certificates"


def new_key(common_name: str) -> tuple[bytes, str]:
    """Return a new private key (ECDSA P-256, PKCS 8) and a request for a certificate of it, both PEM.

    AWS IoT signs requests for ECC keys on NIST P-256, P-384 and P-521, and RSA from 2,048 bits on (API
    reference, CreateCertificateFromCsr).

    Raises:
        EnvironmentProblem: the library for it is not installed.
    """
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    except ImportError as error:
        raise EnvironmentProblem(
            "a rig's certificate needs cryptography; install isthmus with its extra: isthmus[rig]"
        ) from error
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, SHA256())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem, request.public_bytes(Encoding.PEM).decode("ascii")


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
        _give(path, folder)
    _write(place / "private.key", key, folder)
    _write(place / "certificate.pem", certificate.encode("ascii"), folder)
    point_to(folder, identity)
    for other in place.parent.iterdir():
        if other != place:
            shutil.rmtree(other)


def point_to(folder: Path, identity: RigIdentity) -> None:
    """Say which identity is in use; its files are there."""
    temporary = folder / f"{FILE}.new"
    _write(temporary, documents.encode(identity), folder)
    os.replace(temporary, folder / FILE)


def expires(certificate: Path) -> datetime.datetime:
    """Return when a certificate ends (X.509 ``notAfter``), in UTC."""
    from cryptography import x509

    return x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc


def _write(path: Path, data: bytes, folder: Path) -> None:
    """Write and flush to disk, readable by the folder's owner alone from the first byte on."""
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        _give(file.fileno(), folder)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _give(made: Path | int, folder: Path) -> None:
    """What root makes, with sudo, belongs to whom the agent runs as."""
    if os.geteuid() == 0:
        owner = folder.stat()
        os.chown(made, owner.st_uid, owner.st_gid)
