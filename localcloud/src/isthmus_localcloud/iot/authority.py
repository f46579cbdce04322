"""The authority of one local cloud, made at its start and gone with it: AWS's own in miniature."""

import datetime
import ipaddress

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

YEARS = 365 * 20


class Authority:
    """Signs the certificates of devices, and the credentials provider's own."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = named("isthmus local cloud")
        self.pem = self._sign(self._name, self._key.public_key(), authority=True)

    def of_device(self, request: str) -> str:
        """The certificate for a request, both PEM: its subject and its key. ValueError for what is none."""
        asked = x509.load_pem_x509_csr(request.encode())
        if not asked.is_signature_valid:
            raise ValueError("the request is not signed with its own key")
        return self._sign(asked.subject, asked.public_key()).decode()

    def of_server(self, address: str) -> bytes:
        """A new key and its certificate for an IP address, PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        alias = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
        pem = self._sign(named(address), key.public_key(), alias)
        return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + pem

    def _sign(
        self,
        subject: x509.Name,
        key: object,
        alias: x509.SubjectAlternativeName | None = None,
        authority: bool = False,
    ) -> bytes:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)  # type: ignore[arg-type]
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(days=YEARS))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            # Python asks for these from 3.13 on (ssl.VERIFY_X509_STRICT).
            .add_extension(usage(authority), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), False)  # type: ignore[arg-type]
        )
        if alias is not None:
            builder = builder.add_extension(alias, critical=False)
        return builder.sign(self._key, SHA256()).public_bytes(Encoding.PEM)


def usage(authority: bool) -> x509.KeyUsage:
    """An authority signs certificates, everybody else the handshake."""
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def named(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
