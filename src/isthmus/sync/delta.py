"""Of a file that changed, send what changed: the new bytes as a pack, and a recipe that names the rest.

The bucket's own function puts the file together (``workflows/compose_file.py``), so that everybody who reads the
dataset finds whole files. What is not worth it, or cannot be done here, is sent whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from isthmus import documents
from isthmus.errors import InvalidDocument, LimitExceeded, MissingFile
from isthmus.model import layout
from isthmus.model.dataset import Manifest
from isthmus.model.delta import MAX_PIECES, Chunks, Latest, Piece, Recipe
from isthmus.model.units import GIB, KIB
from isthmus.ports import BlobStore
from isthmus.sync.chunks import Chunk, available, cut, differences, noted, read

SMALLEST_BYTES = 256 * KIB
"""A smaller file is sent whole."""
WORTH = 0.5
"""New bytes over all, from which a file is sent whole."""
MAX_NOTES_BYTES = GIB


class Deltas:
    """What one push knows of the version before it. ``before``: digests by path, of the manifest pushed last."""

    def __init__(self, dataset: str, blobs: BlobStore) -> None:
        self._dataset = dataset
        self._blobs = blobs
        self._before: Mapping[str, str] | None = None

    def send(self, name: str, path: Path, sha256: str) -> int | None:
        """Send a file as what changed of the one of the same name; return the bytes sent, None: send it whole.

        Either way it is noted how the file is cut, for its next version.
        """
        if path.stat().st_size < SMALLEST_BYTES or not available():
            return None
        if self._blobs.info(layout.recipe_key(self._dataset, sha256)) is not None:
            return 0  # sent by an earlier push, and not put together yet
        chunks = list(cut(path))
        notes = msgspec.msgpack.encode(noted(chunks))
        self._blobs.put(layout.chunks_key(self._dataset, sha256), notes)
        sent = self._difference(name, path, sha256, chunks)
        return None if sent is None else sent + len(notes)

    def commit(self, manifest_key: str) -> None:
        """Remember the manifest; what the next push compares with."""
        if available():
            self._blobs.put(layout.latest_key(self._dataset), documents.encode(Latest(manifest=manifest_key)))

    def _difference(self, name: str, path: Path, sha256: str, chunks: list[Chunk]) -> int | None:
        earlier = self._earlier().get(name)
        known = self._chunks(earlier) if earlier is not None else None
        if earlier is None or known is None:
            return None
        pieces, size = differences(chunks, known), path.stat().st_size
        new = [(start, stop) for is_new, start, stop in pieces if is_new]
        if sum(stop - start for start, stop in new) > WORTH * size or len(pieces) > MAX_PIECES:
            return None
        pack = _bytes_of(path, new)
        pack_digest = hashlib.sha256(pack).hexdigest()
        recipe = documents.encode(
            Recipe(
                dataset=self._dataset,
                sha256=sha256,
                size_bytes=size,
                sources=(earlier,),
                pack=pack_digest,
                pieces=tuple(_recipe_pieces(pieces)),
            )
        )
        self._blobs.put(layout.pack_key(self._dataset, pack_digest), pack, sha256=pack_digest)
        self._blobs.put(layout.recipe_key(self._dataset, sha256), recipe)
        return len(pack) + len(recipe)

    def _earlier(self) -> Mapping[str, str]:
        if self._before is None:
            self._before = {}
            try:
                raw = self._blobs.get(layout.latest_key(self._dataset), max_bytes=64 * KIB)
                key = documents.decode(Latest, raw, "the latest push").manifest
                if not key.startswith(layout.dataset_folder(self._dataset)):
                    return self._before
                raw = self._blobs.get(key, max_bytes=documents.MAX_DOCUMENT_BYTES)
                files = documents.decode(Manifest, raw, key).files
                self._before = {file.path: file.sha256 for file in files if file.key is None}
            except (MissingFile, InvalidDocument, LimitExceeded):
                pass
        return self._before

    def _chunks(self, sha256: str) -> list[Chunk] | None:
        try:
            raw = self._blobs.get(layout.chunks_key(self._dataset, sha256), max_bytes=MAX_NOTES_BYTES)
            return read(msgspec.msgpack.decode(raw, type=Chunks))
        except (MissingFile, InvalidDocument, LimitExceeded, msgspec.DecodeError):
            return None


def _bytes_of(path: Path, pieces: list[tuple[int, int]]) -> bytes:
    """At most half of the file, in memory; the digest of the whole says later whether it changed meanwhile."""
    with path.open("rb") as file:
        parts = []
        for start, stop in pieces:
            file.seek(start)
            parts.append(file.read(stop - start))
    return b"".join(parts)


def _recipe_pieces(pieces: list[tuple[bool, int, int]]) -> list[Piece]:
    """Return pieces of source 0, the earlier file, and of source 1, the pack."""
    found, at = [], 0
    for is_new, start, stop in pieces:
        if is_new:
            found.append(Piece(1, at, at + stop - start))
            at += stop - start
        else:
            found.append(Piece(0, start, stop))
    return found
