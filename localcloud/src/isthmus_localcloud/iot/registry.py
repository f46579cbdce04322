"""Where moto's IoT differs: a certificate for a request has another key than the request, an id that is not
that of its bytes, ends after a day whatever it says, and has an endpoint that is a name on the internet."""

from typing import Any

from cryptography import x509
from localemu.aws.api import CommonServiceException
from moto.iot.models import FakeCertificate, IoTBackend

from .authority import Authority


def apply(authority: Authority, address: str) -> None:
    """``address``: host and port of the credentials provider."""

    def create_certificate_from_csr(backend: Any, csr: str, set_as_active: bool) -> Any:
        try:
            pem = authority.of_device(csr)
        except ValueError as error:
            raise CommonServiceException(
                "InvalidRequestException", f"the CSR is invalid: {error}", 400
            ) from error
        made = backend.register_certificate(
            pem, ca_certificate_pem=None, set_as_active=set_as_active, status="INACTIVE"
        )
        signed = x509.load_pem_x509_certificate(pem.encode("ascii"))
        made.validity_not_before = signed.not_valid_before_utc.timestamp()
        made.validity_not_after = signed.not_valid_after_utc.timestamp()
        return made

    def describe_endpoint(backend: Any, endpoint_type: str) -> Any:
        found = original(backend, endpoint_type)
        if endpoint_type == "iot:CredentialProvider":
            found.endpoint = address
        return found

    original = IoTBackend.describe_endpoint
    IoTBackend.create_certificate_from_csr = create_certificate_from_csr
    IoTBackend.describe_endpoint = describe_endpoint
    # The id is the SHA-256 of the certificate's DER; moto says so itself, and has another by default.
    FakeCertificate.compute_cert_id = FakeCertificate.compute_der_cert_id
