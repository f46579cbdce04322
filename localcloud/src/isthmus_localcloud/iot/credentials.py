"""The credentials provider: temporary credentials of a role for a device's certificate, over mutual TLS.

Source: AWS IoT Core developer guide, "Authorizing direct calls to AWS services using AWS IoT Core
credential provider": the certificate has to be active, its policies have to allow
``iot:AssumeRoleWithCertificate`` on the role alias, a thing that is named has to be attached to it, and
the role has to trust the service. The session then knows the thing's name, its type and the certificate
as context keys of IAM.
"""

import hashlib
import json
import re
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from ..iam import identities
from ..iam.policies import Policies, Principal, Question, parse_text
from ..preflight import HOST
from .authority import Authority

SERVICE = "credentials.iot.amazonaws.com"
PATH = re.compile(r"/role-aliases/([\w=,@-]+)/credentials")
SECONDS_TO_ANSWER = 30


class RefusedError(Exception):
    """An answer that holds no credentials: its status, and its message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def answer(path: str, thing: str | None, certificate: bytes | None) -> dict[str, Any]:
    """``certificate``: DER of the one that the device showed. Raises RefusedError."""
    asked = PATH.fullmatch(path)
    if asked is None:
        raise RefusedError(404, "Not Found")
    backend, known = _registered(certificate)
    if known.status != "ACTIVE":
        raise RefusedError(403, "Access Denied")
    alias = backend.role_aliases.get(asked[1])
    arn = (
        alias.arn if alias else f"arn:aws:iot:{backend.region_name}:{backend.account_id}:rolealias/{asked[1]}"
    )
    if not _allows(backend, known, arn):
        raise RefusedError(403, "Access Denied")
    if alias is None:
        raise RefusedError(404, "Role alias does not exist")
    keys = {"credentials-iot:AwsCertificateId": known.certificate_id, **_of_thing(backend, known, thing)}
    return _assumed(backend, alias, known.certificate_id, keys)


def _registered(certificate: bytes | None) -> tuple[Any, Any]:
    from moto.iot.models import iot_backends

    identity = hashlib.sha256(certificate or b"").hexdigest()
    for account in list(iot_backends.values()):
        for backend in list(account.values()):
            if certificate and identity in backend.certificates:
                return backend, backend.certificates[identity]
    raise RefusedError(403, "Access Denied")


def _allows(backend: Any, certificate: Any, alias_arn: str) -> bool:
    texts = [policy.document for policy in backend.list_attached_policies(certificate.arn)]
    statements = [statement for text in texts for statement in parse_text(text)]
    question = Question("iot:AssumeRoleWithCertificate", alias_arn, {})
    return Policies(statements).decide(Principal(backend.account_id), question).allows


def _of_thing(backend: Any, certificate: Any, thing: str | None) -> dict[str, str]:
    """Nothing for a device that names no thing."""
    if thing is None:
        return {}
    if thing not in backend.list_principal_things(certificate.arn):
        raise RefusedError(403, "Invalid thing name passed")
    kind = backend.describe_thing(thing).thing_type
    keys = {"credentials-iot:ThingName": thing}
    return {**keys, "credentials-iot:ThingTypeName": kind.thing_type_name} if kind else keys


def _assumed(backend: Any, alias: Any, session: str, keys: dict[str, str]) -> dict[str, Any]:
    from localemu.aws.connect import connect_to

    client = connect_to(region_name=backend.region_name).sts.request_metadata(service_principal=SERVICE)
    try:
        given = client.assume_role(
            RoleArn=alias.role_arn, RoleSessionName=session, DurationSeconds=alias.credential_duration_seconds
        )["Credentials"]
    except ClientError as error:
        raise RefusedError(403, "Access Denied") from error
    identities.tell(backend.account_id, given["AccessKeyId"], keys)
    return {
        "credentials": {
            "accessKeyId": given["AccessKeyId"],
            "secretAccessKey": given["SecretAccessKey"],
            "sessionToken": given["SessionToken"],
            "expiration": given["Expiration"].strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
    }


class Handler(BaseHTTPRequestHandler):
    timeout = SECONDS_TO_ANSWER

    def do_GET(self) -> None:
        connection: Any = self.connection
        thing = self.headers.get("x-amzn-iot-thingname")
        try:
            status, body = 200, answer(self.path, thing, connection.getpeercert(binary_form=True))
        except RefusedError as error:
            status, body = error.status, {"message": str(error)}
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        return


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        return  # a handshake that failed, a client that went away


def serve(authority: Authority, folder: Path) -> str:
    """Serve in a thread of this process, on loopback alone; return host and port."""
    file = folder / "credentials-provider.pem"
    file.touch(mode=0o600)
    file.write_bytes(authority.of_server(HOST))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    file.unlink()
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_verify_locations(cadata=authority.pem.decode())
    server = Server((HOST, 0), Handler)
    # The handshake is the connection's own thread's: a client that is slow at it keeps nobody waiting.
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, name="credentials-provider", daemon=True).start()
    return f"{HOST}:{server.server_port}"
