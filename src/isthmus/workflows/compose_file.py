"""Put a file together that was sent as what changed of an earlier one, where the bucket is."""

from __future__ import annotations

from collections.abc import Iterator

from isthmus import documents
from isthmus.errors import DigestMismatch, InvalidManifest, MissingFile
from isthmus.model import layout
from isthmus.model.delta import Recipe
from isthmus.ports import BlobStore

MAX_DEPTH = 16
"""Versions that were pushed one after the other before any of them was put together."""


def compose_file(dataset: str, sha256: str, blobs: BlobStore, *, depth: int = 0) -> bool:
    """Write the blob with that digest from its recipe; return False when it has none.

    The bytes are checked as a whole before they count: a recipe can name only what its digest confirms, and only
    blobs of its own dataset, so that it lets nobody read what they may not.

    Raises:
        MissingFile: an earlier file or the new bytes are not there (yet).
        DigestMismatch: the pieces are not the file; it must be pushed whole.
        InvalidManifest: the recipe is malformed.
    """
    key = layout.recipe_key(dataset, sha256)
    try:
        raw = blobs.get(key, max_bytes=documents.MAX_DOCUMENT_BYTES)
    except MissingFile:
        return False
    recipe = documents.decode(Recipe, raw, key)
    _check(recipe, dataset, sha256, key, depth)
    keys = [_blob(dataset, source) for source in recipe.sources]
    for source, blob in zip(recipe.sources, keys, strict=True):
        if blobs.info(blob) is None and not compose_file(dataset, source, blobs, depth=depth + 1):
            raise MissingFile(
                f"{key} is made of {blob}, which is not in the bucket: push the dataset with --whole"
            )
    pack = layout.pack_key(dataset, recipe.pack)
    try:
        blobs.compose(_blob(dataset, sha256), _pieces(recipe, [*keys, pack], blobs), sha256=sha256)
    except DigestMismatch as error:
        raise DigestMismatch(
            f"{key} does not give its file: push the dataset with --whole ({error})"
        ) from error
    return True


def _blob(dataset: str, sha256: str) -> str:
    return layout.dataset_folder(dataset) + layout.blob_path(sha256)


def _check(recipe: Recipe, dataset: str, sha256: str, key: str, depth: int) -> None:
    size = sum(piece.stop - piece.start for piece in recipe.pieces)
    sound = all(p.start <= p.stop and p.source <= len(recipe.sources) for p in recipe.pieces)
    if (recipe.dataset, recipe.sha256, recipe.size_bytes) != (dataset, sha256, size) or not sound:
        raise InvalidManifest(f"{key} is not a recipe of the file that it is named by")
    if depth >= MAX_DEPTH or sha256 in recipe.sources:
        raise InvalidManifest(f"{key} leads to more than {MAX_DEPTH} others: push the dataset with --whole")


def _pieces(recipe: Recipe, keys: list[str], blobs: BlobStore) -> Iterator[bytes]:
    for piece in recipe.pieces:
        yield from blobs.pieces(keys[piece.source], start=piece.start, stop=piece.stop)
