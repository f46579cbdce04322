"""A rig's credentials: given by AWS IoT for its certificate, for an hour, and asked for again before they end.

The request and its answer: AWS IoT Core developer guide, "Authorizing direct calls to AWS services using AWS
IoT Core credential provider". The thing's name has to be sent, or the role's policy, which names the rig's
own resources by it, allows none of them. Nothing that is given out is written to a disk or a log.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import boto3
from botocore.awsrequest import AWSRequest
from botocore.credentials import CredentialProvider, CredentialResolver, RefreshableCredentials
from botocore.httpsession import URLLib3Session
from botocore.session import Session, get_session
from botocore.utils import get_environ_proxies

from isthmus.adapters.aws.errors import passing_trouble
from isthmus.adapters.aws.session import client
from isthmus.errors import EnvironmentProblem, PermissionMissing, Unavailable
from isthmus.model.rig_identity import Proof

METHOD = "isthmus-rig-certificate"
COMMAND = "isthmus rig join"
CONNECT_SECONDS, READ_SECONDS = 5, 20
PASSING = frozenset({408, 429})
"""The statuses below 500 after which the same request may be answered."""


class CertificateCredentials(CredentialProvider):
    """Whoever ``proof`` says this is, asked anew each time: a certificate may have been rotated meanwhile."""

    METHOD = METHOD
    CANONICAL_NAME = METHOD

    def __init__(
        self, proof: Callable[[], Proof | None], ca_bundle: str | None = None, command: str = COMMAND
    ) -> None:
        super().__init__()
        self._proof, self._ca_bundle, self._command = proof, ca_bundle, command

    def load(self) -> RefreshableCredentials:
        return RefreshableCredentials.create_from_metadata(
            self.fetch(), refresh_using=self.fetch, method=METHOD
        )

    def fetch(self) -> dict[str, str]:
        """Return fresh credentials as botocore takes them.

        Raises:
            PermissionMissing: the certificate is revoked, or not the rig's.
            EnvironmentProblem: the files are gone, or the endpoint does not know the alias.
            Unavailable: the endpoint did not answer.
        """
        proof = self._now()
        try:
            return self._ask(proof)
        except (PermissionMissing, EnvironmentProblem):
            # A rotation takes the old certificate away as soon as the new one is in its place.
            if (newer := self._now()).identity == proof.identity:
                raise
        return self._ask(newer)

    def _now(self) -> Proof:
        proof = self._proof()
        if proof is None:
            raise EnvironmentProblem(f"the folder holds no certificate any more; run `{self._command}`")
        return proof

    @passing_trouble("the IoT credentials provider")
    def _ask(self, proof: Proof) -> dict[str, str]:
        for path in (proof.certificate, proof.key):
            if not path.is_file():
                raise EnvironmentProblem(f"{path} is missing; get a new certificate with `{self._command}`")
        identity = proof.identity
        url = f"https://{identity.endpoint}/role-aliases/{identity.alias}/credentials"
        settings: dict[str, Any] = {
            "verify": self._ca_bundle or True,
            "proxies": get_environ_proxies(url),
            "timeout": (CONNECT_SECONDS, READ_SECONDS),
            "client_cert": (str(proof.certificate), str(proof.key)),
        }
        http = URLLib3Session(**settings)
        try:
            answer = http.send(AWSRequest("GET", url, {"x-amzn-iot-thingname": identity.rig}).prepare())
        finally:
            http.close()
        if answer.status_code != 200:
            raise _refusal(proof, answer.status_code, answer.text, self._command)
        return _credentials(answer.text)


def _refusal(proof: Proof, status: int, body: str, command: str) -> Exception:
    identity, said = proof.identity, _message(body)
    # A core device's own file does not name its stack.
    whose = f"this rig and the stack {identity.stack}" if identity.stack else "this device and its stack"
    if status == 403:
        return PermissionMissing(
            f"AWS IoT gives {identity.rig} no credentials ({said}): its certificate "
            f"{identity.certificate_id[:12]} is revoked, or not one of {whose}; "
            f"get a new one with `{command}`"
        )
    if status >= 500 or status in PASSING:
        return Unavailable(f"the IoT credentials provider answered {status}: {said}")
    return EnvironmentProblem(
        f"the IoT credentials provider answered {status} ({said}) for the role alias {identity.alias}; "
        f"deploy the stack, then run `{command}` again"
    )


def _message(body: str) -> str:
    try:
        return str(json.loads(body)["message"])[:200]
    except (ValueError, KeyError, TypeError):
        return "no reason given"


def _credentials(body: str) -> dict[str, str]:
    """Return what an answer gives; one that is cut short or malformed passes, and is not quoted."""
    try:
        given = json.loads(body)["credentials"]
        return {
            "access_key": given["accessKeyId"],
            "secret_key": given["secretAccessKey"],
            "token": given["sessionToken"],
            "expiry_time": given["expiration"],
        }
    except (ValueError, KeyError, TypeError) as error:
        raise Unavailable("the IoT credentials provider's answer holds no credentials") from error


def session_of(proof: Callable[[], Proof | None], region: str, command: str = COMMAND) -> boto3.Session:
    """Return a session of its own that works with the certificate; whatever else this process calls does not.
    ``command``: what gets this machine a new certificate."""
    return boto3.Session(botocore_session=_session(proof, region, command)[0])


def use(proof: Callable[[], Proof | None], region: str) -> CertificateCredentials:
    """Make every client of this process from now on one of the rig's; no other credentials are looked for."""
    session, provider = _session(proof, region, COMMAND)
    boto3.setup_default_session(botocore_session=session)
    client.cache_clear()
    return provider


def _session(
    proof: Callable[[], Proof | None], region: str, command: str
) -> tuple[Session, CertificateCredentials]:
    session: Session = get_session()
    provider = CertificateCredentials(proof, session.get_config_variable("ca_bundle"), command)
    resolver: Any = CredentialResolver([provider])
    session.register_component("credential_provider", resolver)
    session.set_config_variable("region", region)
    # While the network is away, each call in the last quarter of an hour would print a traceback, and go on.
    logging.getLogger("botocore.credentials").setLevel(logging.ERROR)
    return session, provider
