"""A device's private key and what of it is on its disk: made here, and never sent anywhere."""

from __future__ import annotations

import os
from pathlib import Path

from isthmus.errors import EnvironmentProblem


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
            "a device's certificate needs cryptography; install isthmus with its extra: isthmus[rig]"
        ) from error
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, SHA256())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem, request.public_bytes(Encoding.PEM).decode("ascii")


def write_private(path: Path, data: bytes, folder: Path) -> None:
    """Write and flush to disk, readable by ``folder``'s owner alone from the first byte on."""
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        give(file.fileno(), folder)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def give(made: Path | int, folder: Path) -> None:
    """What root makes, with sudo, belongs to whom the agent runs as: the owner of ``folder``."""
    if os.geteuid() == 0:
        owner = folder.stat()
        os.chown(made, owner.st_uid, owner.st_gid)
