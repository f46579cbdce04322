"""``Certificates`` in memory, signed by an authority of its own."""

from __future__ import annotations

import datetime
import hashlib
from typing import TYPE_CHECKING

import msgspec

from isthmus.model.rig_identity import Certificate
from isthmus.model.units import utc_of

if TYPE_CHECKING:
    from cryptography import x509


class MemoryCertificates:
    """``authority_pem`` is what a server has to trust; ``things``: whose each certificate is."""

    def __init__(
        self, endpoint: str = "credentials.example", since: str = "2026-01-01T00:00:00+00:00"
    ) -> None:
        from cryptography.hazmat.primitives.asymmetric import ec

        self.known: dict[str, Certificate] = {}
        self.things: dict[str, str] = {}
        self._endpoint, self._since = endpoint, since
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named("isthmus authority")
        self.authority_pem = self._signed(self._name, self._key.public_key(), authority=True)

    def endpoint(self) -> str:
        return self._endpoint

    def issue(self, rig: str, request: str) -> tuple[Certificate, str]:
        from cryptography import x509

        asked = x509.load_pem_x509_csr(request.encode("ascii"))
        pem = self._signed(asked.subject, asked.public_key(), authority=False)
        identity = hashlib.sha256(pem.encode("ascii")).hexdigest()
        ends = x509.load_pem_x509_certificate(pem.encode("ascii")).not_valid_after_utc.timestamp()
        made = Certificate(
            id=identity, arn=f"arn:cert/{identity}", active=True, since=self._since, until=utc_of(ends)
        )
        self.known[identity], self.things[identity] = made, rig
        return made, pem

    def of(self, rig: str) -> list[Certificate]:
        return [self.known[identity] for identity in sorted(self.known) if self.things[identity] == rig]

    def deactivate(self, certificate: Certificate) -> None:
        if certificate.id in self.known:
            self.known[certificate.id] = msgspec.structs.replace(certificate, active=False)

    def remove(self, certificate: Certificate, rig: str) -> None:
        self.known.pop(certificate.id, None)
        self.things.pop(certificate.id, None)

    def _signed(self, subject: x509.Name, key: object, *, authority: bool) -> str:
        from cryptography import x509
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.serialization import Encoding

        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)  # type: ignore[arg-type]
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(days=365))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        return builder.sign(self._key, SHA256()).public_bytes(Encoding.PEM).decode("ascii")


def _named(common_name: str) -> x509.Name:
    from cryptography import x509

    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
