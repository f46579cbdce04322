"""A credentials provider on loopback: TLS with a certificate on either side, answering what a test says."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from isthmus.adapters.local.certificates import MemoryCertificates

SECRET = "wJalrXUtnFEMI-not-to-be-seen"


@dataclass
class Endpoint:
    """``answers``: (status, body) to give next, before the usual ones. ``asked``: (path, thing, certificate's id)."""

    registry: MemoryCertificates
    bundle: Path
    lasts: datetime.timedelta = datetime.timedelta(hours=1)
    answers: list[tuple[int, bytes]] = field(default_factory=list)
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    address: str = ""

    def answer(self, path: str, thing: str, certificate: bytes | None) -> tuple[int, bytes]:
        identity = (
            hashlib.sha256(ssl.DER_cert_to_PEM_cert(certificate).encode()).hexdigest() if certificate else ""
        )
        self.asked.append((path, thing, identity))
        if self.answers:
            return self.answers.pop(0)
        active = {entry.id for entry in self.registry.of(thing) if entry.active}
        if identity not in active:
            return 403, b'{"message":"Access Denied"}'
        expiration = (datetime.datetime.now(datetime.UTC) + self.lasts).strftime("%Y-%m-%dT%H:%M:%SZ")
        given = {
            "accessKeyId": f"ASIA{len(self.asked)}",
            "secretAccessKey": SECRET,
            "sessionToken": "token",
            "expiration": expiration,
        }
        return 200, json.dumps({"credentials": given}).encode()


@contextmanager
def serving(folder: Path) -> Iterator[Endpoint]:
    """Serve on a free port of loopback. ``bundle`` holds what a client has to trust."""
    registry = MemoryCertificates()
    server_files = folder / "server.pem"
    endpoint = Endpoint(registry, folder / "bundle.pem")
    endpoint.bundle.write_bytes(_server_certificate(server_files))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server_files)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_verify_locations(cadata=registry.authority_pem)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            connection: Any = self.connection
            thing = self.headers.get("x-amzn-iot-thingname", "")
            status, body = endpoint.answer(self.path, thing, connection.getpeercert(binary_form=True))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            return

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            return  # a handshake that a test lets fail

    server = Server(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    endpoint.address = registry._endpoint = f"127.0.0.1:{server.server_port}"
    try:
        yield endpoint
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _server_certificate(path: Path) -> bytes:
    """Write a certificate for 127.0.0.1 with its key; return what has to be trusted, itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, SHA256())
    )
    pem = made.public_bytes(Encoding.PEM)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + pem)
    return pem
