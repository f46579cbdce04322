"""A bundle as a folder: sealed by its signer, and read only after everything about it was verified."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from isthmus import documents
from isthmus.errors import DigestMismatch, InvalidModel, SignatureInvalid
from isthmus.inference.decoding import read_npy
from isthmus.inference.early import known_digest
from isthmus.inference.files import is_safe_path, list_files, sha256_file
from isthmus.model.bundle import MANIFEST_FILE, MODEL_FILE, SIGNATURE_FILE, BundleFile, BundleManifest, Golden
from isthmus.model.units import KIB, MIB, format_bytes

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from numpy.typing import NDArray

    from isthmus.ports import Signer

MAX_MANIFEST_BYTES = MIB
MAX_SIGNATURE_BYTES = KIB


class Bundle(msgspec.Struct, frozen=True):
    """A verified bundle; ``sha256`` is its manifest's digest and names it."""

    folder: Path
    manifest: BundleManifest
    sha256: str

    @property
    def model_path(self) -> Path:
        """The ONNX file."""
        return self.folder / MODEL_FILE

    def goldens(self) -> Iterator[tuple[Golden, NDArray[Any], NDArray[Any]]]:
        """Yield each golden with its raw input and its expected first output."""
        for golden in self.manifest.goldens:
            yield golden, self._array(golden.inputs), self._array(golden.expected)

    def _array(self, name: str) -> NDArray[Any]:
        return read_npy((self.folder / name).read_bytes(), name)


def open_bundle(folder: Path, public_key_der: bytes | None, *, sha256: str = "") -> Bundle:
    """Verify the signature, then every file's size and digest, and return the bundle.

    The signature is checked over the manifest's bytes before they are parsed. Without a key it is
    not checked: for a bundle that this process has just made, never for one that arrived.
    ``sha256`` is the digest that the manifest must have, from a source as good as the key's; then that stands
    for the signature, which whoever named the digest has checked.

    Raises:
        SignatureInvalid: the manifest is not what the key's owner signed.
        InvalidDocument: the manifest does not fit its schema.
        InvalidModel: a file is missing, unknown, or no plain file.
        DigestMismatch: a file's size or SHA-256 differs from the manifest.
    """
    raw = _read_small(folder / MANIFEST_FILE, MAX_MANIFEST_BYTES)
    if sha256 and hashlib.sha256(raw).hexdigest() != sha256:
        raise DigestMismatch(
            f"{MANIFEST_FILE} is not that of the bundle {sha256}, which is to be served here"
        )
    if public_key_der is not None and not sha256:
        verify_signature(raw, _read_small(folder / SIGNATURE_FILE, MAX_SIGNATURE_BYTES), public_key_der)
    manifest = documents.decode(BundleManifest, raw, MANIFEST_FILE, max_bytes=MAX_MANIFEST_BYTES)
    _check_names(folder, manifest)
    for file in manifest.files:
        _check_file(folder, file)
    return Bundle(folder, manifest, documents.sha256(raw))


def read_signed_manifest(folder: Path) -> tuple[bytes, bytes]:
    """Return a manifest's bytes and those of its signature, none of them checked.

    Raises:
        InvalidModel: one is missing, no plain file, or too large.
    """
    manifest = _read_small(folder / MANIFEST_FILE, MAX_MANIFEST_BYTES)
    return manifest, _read_small(folder / SIGNATURE_FILE, MAX_SIGNATURE_BYTES)


def verify_signature(manifest: bytes, signature: bytes, public_key_der: bytes) -> None:
    """Check a DER signature, ECDSA P-256 over SHA-256 (FIPS 186-5), of a manifest's bytes.

    Raises:
        SignatureInvalid: it does not fit, or the key is no P-256 key.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import SHA256

    try:
        check_key(public_key_der).verify(signature, manifest, ec.ECDSA(SHA256()))
    except InvalidSignature as error:
        raise SignatureInvalid(f"{MANIFEST_FILE} is not what its signer signed") from error


def check_key(public_key_der: bytes) -> EllipticCurvePublicKey:
    """Return the P-256 key that these bytes are.

    Raises:
        SignatureInvalid: they are none.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    try:
        key = load_der_public_key(public_key_der)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SignatureInvalid(f"the public key is not DER SubjectPublicKeyInfo: {error}") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise SignatureInvalid("the public key is not an ECDSA P-256 key")
    return key


def describe_files(folder: Path) -> tuple[BundleFile, ...]:
    """Return every file of a folder that is to become a bundle, with digest and size, sorted.

    Raises:
        InvalidModel: it holds a link, or a name that is not safe.
    """
    names = [name for name in list_files(folder) if name not in (MANIFEST_FILE, SIGNATURE_FILE)]
    if unsafe := [name for name in names if not is_safe_path(name)]:
        raise InvalidModel(f"{unsafe[0]!r} is not a safe name for a file of a bundle")
    return tuple(
        BundleFile(path=name, sha256=sha256_file(folder / name), size_bytes=(folder / name).stat().st_size)
        for name in names
    )


def seal_bundle(folder: Path, manifest: BundleManifest, signer: Signer) -> Bundle:
    """Write the manifest and its signature, and return the bundle as a reader would find it.

    Raises:
        InvalidModel, DigestMismatch: the manifest does not describe the folder.
        SignatureInvalid: the signer's signature does not fit its own public key.
    """
    raw = documents.encode(manifest)
    (folder / MANIFEST_FILE).write_bytes(raw)
    (folder / SIGNATURE_FILE).write_bytes(signer.sign(hashlib.sha256(raw).digest()))
    return open_bundle(folder, signer.public_key())


def _read_small(path: Path, max_bytes: int) -> bytes:
    if path.is_symlink() or not path.is_file():
        raise InvalidModel(f"the bundle has no {path.name}")
    if path.stat().st_size > max_bytes:
        raise InvalidModel(f"{path.name} is larger than {format_bytes(max_bytes)}")
    return path.read_bytes()


def _check_names(folder: Path, manifest: BundleManifest) -> None:
    named = [file.path for file in manifest.files]
    if unsafe := [name for name in named if not is_safe_path(name)]:
        raise InvalidModel(f"the manifest names {unsafe[0]!r}, which is not a safe path")
    if len(set(named)) != len(named):
        raise InvalidModel("the manifest names a file twice")
    needed = {MODEL_FILE, *(name for golden in manifest.goldens for name in (golden.inputs, golden.expected))}
    if missing := sorted(needed - set(named)):
        raise InvalidModel(f"the manifest's files do not include {missing[0]}")
    present = set(list_files(folder)) - {MANIFEST_FILE, SIGNATURE_FILE}
    if missing := sorted(set(named) - present):
        raise InvalidModel(f"the bundle lacks {missing[0]}")
    if unknown := sorted(present - set(named)):
        raise InvalidModel(f"the bundle holds {unknown[0]}, which its manifest does not name")


def _check_file(folder: Path, file: BundleFile) -> None:
    size = (folder / file.path).stat().st_size
    if size != file.size_bytes:
        raise DigestMismatch(f"{file.path} has {size} bytes; the manifest says {file.size_bytes}")
    if (known_digest(folder / file.path) or sha256_file(folder / file.path)) != file.sha256:
        raise DigestMismatch(f"{file.path} does not have the SHA-256 that the manifest says")
