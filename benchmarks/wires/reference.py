"""The references: iperf3 and a C program on OpenSSL; and the certificates for both sides."""

from __future__ import annotations

import datetime
import json
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

ROLES = ("receive", "send")


def needed() -> None:
    """End in one sentence when a program is missing."""
    if missing := [name for name in ("iperf3", "gcc", "openssl") if shutil.which(name) is None]:
        sys.exit(
            f"wire needs {' and '.join(missing)}; install with: apt-get install iperf3 gcc libssl-dev openssl"
        )


def build(folder: Path) -> Path:
    """Compile the C program; end in one sentence where OpenSSL's headers are missing."""
    peer = folder / "tls_peer"
    source = Path(__file__).with_name("tls_peer.c")
    done = subprocess.run(
        ["gcc", "-O2", "-o", str(peer), str(source), "-lssl", "-lcrypto"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(
            f"wire needs OpenSSL's headers; install with: apt-get install libssl-dev ({done.stderr[:200]})"
        )
    return peer


def iperf3(seconds: int, *options: str) -> float:
    """Return bytes per second of one stream over loopback, as the receiver counts them."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    server = subprocess.Popen(
        ["iperf3", "-s", "-1", "-p", port, "--forceflush"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        while "listening" not in server.stdout.readline():
            continue
        done = subprocess.run(
            ["iperf3", "-c", "127.0.0.1", "-p", port, "-t", str(seconds), "-J", *options],
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        server.kill()
        server.communicate()
    return float(json.loads(done.stdout)["end"]["sum_received"]["bits_per_second"]) / 8


def openssl_stream(peer: Path, files: Path, size: int, seconds: float) -> float:
    """Return bytes per second of the C program under mutual TLS."""
    receiver = subprocess.Popen(
        [str(peer), "serve", *_files(files, "receive")], stdout=subprocess.PIPE, text=True
    )
    assert receiver.stdout is not None
    port = receiver.stdout.readline().strip()
    subprocess.run([str(peer), "send", *_files(files, "send"), port, str(size), str(seconds)], check=True)
    count, took = receiver.communicate()[0].split()
    return int(count) / float(took)


def openssl_cipher() -> float:
    """Return bytes per second that one core encrypts with the cipher that TLS 1.3 takes first, in records."""
    done = subprocess.run(
        ["openssl", "speed", "-seconds", "1", "-bytes", "16384", "-evp", "aes-256-gcm"],
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.search(r"^AES-256-GCM\s+([\d.]+)k", done.stdout, re.MULTILINE | re.IGNORECASE)
    return float(found[1]) * 1000 if found else 0.0


def write_certificates(folder: Path) -> None:
    """Write an authority, and a certificate and key for each side by it."""
    keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("authority", *ROLES)}
    now = datetime.datetime.now(datetime.UTC)
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
    for name, key in keys.items():
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=name == "authority", path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        )
        signed = builder.sign(keys["authority"], hashes.SHA256())
        (folder / f"{name}.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        (folder / f"{name}.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )


def _files(files: Path, role: str) -> list[str]:
    return [str(files / f"{role}.pem"), str(files / f"{role}.key"), str(files / "authority.pem")]
