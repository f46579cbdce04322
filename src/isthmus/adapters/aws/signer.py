"""``Signer`` on an asymmetric KMS key (ECC_NIST_P256, SIGN_VERIFY)."""

from __future__ import annotations

from isthmus.adapters.aws.errors import passing_trouble
from isthmus.adapters.aws.session import client


class KmsSigner:
    """The private key never leaves KMS."""

    def __init__(self, key_id: str) -> None:
        self._key_id = key_id

    @passing_trouble("KMS")
    def sign(self, digest: bytes) -> bytes:
        answer = client("kms").sign(
            KeyId=self._key_id, Message=digest, MessageType="DIGEST", SigningAlgorithm="ECDSA_SHA_256"
        )
        return bytes(answer["Signature"])

    @passing_trouble("KMS")
    def public_key(self) -> bytes:
        return bytes(client("kms").get_public_key(KeyId=self._key_id)["PublicKey"])
