"""A bundle that is too large for Lambda's layers: fetched from the bucket when the function starts.

The same guarantees as a layer's: the manifest is verified against the signer's key before it is
read, and every file against the manifest before it is used. Ranges are fetched over several connections.
"""

from __future__ import annotations

from pathlib import Path

from isthmus import documents
from isthmus.errors import InvalidModel
from isthmus.inference.bundle import MAX_MANIFEST_BYTES, MAX_SIGNATURE_BYTES, Bundle, verify_signature
from isthmus.inference.files import is_safe_path
from isthmus.model import layout
from isthmus.model.bundle import MANIFEST_FILE, MODEL_FILE, SIGNATURE_FILE, BundleManifest
from isthmus.ports import BlobStore
from isthmus.sync.download import download
from isthmus.sync.transfer import Wanted

CONNECTIONS = 8
"""One gives about 85 to 90 MB/s (S3 user guide, "Performance design patterns": concurrent connections)."""


def fetch_weights(model: str, digest: str, public_key_der: bytes, into: Path, *, blobs: BlobStore) -> Bundle:
    """Fetch a bundle's files below ``into`` and return it, verified; what is there already is not fetched.

    Raises:
        SignatureInvalid, DigestMismatch, InvalidDocument, InvalidModel: it is not what was packaged.
        MissingFile, Unavailable: the bucket has it no more, or did not answer.
    """
    prefix = layout.bundle_folder(model, digest)
    raw = blobs.get(prefix + MANIFEST_FILE, max_bytes=MAX_MANIFEST_BYTES)
    signature = blobs.get(prefix + SIGNATURE_FILE, max_bytes=MAX_SIGNATURE_BYTES)
    verify_signature(raw, signature, public_key_der)
    manifest = documents.decode(BundleManifest, raw, MANIFEST_FILE, max_bytes=MAX_MANIFEST_BYTES)
    if documents.sha256(raw) != digest or manifest.model != model:
        raise InvalidModel(f"{prefix} holds another bundle than its name says")
    if unsafe := [file.path for file in manifest.files if not is_safe_path(file.path)]:
        raise InvalidModel(f"the manifest names {unsafe[0]!r}, which is not a safe path")
    if MODEL_FILE not in {file.path for file in manifest.files}:
        raise InvalidModel(f"the manifest's files do not include {MODEL_FILE}")
    wanted = [
        Wanted(prefix + file.path, file.sha256, into / file.path, file.size_bytes) for file in manifest.files
    ]
    for _ in download(wanted, blobs, connections=CONNECTIONS):
        pass
    return Bundle(into, manifest, digest)
