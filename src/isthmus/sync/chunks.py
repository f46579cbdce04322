"""Where a file is cut: at places that its content gives, so that an insertion moves no other cut (FastCDC)."""

from __future__ import annotations

import array
import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

from isthmus.errors import EnvironmentProblem, InvalidDocument
from isthmus.model.delta import Chunks
from isthmus.model.units import KIB

AVERAGE_BYTES = 16 * KIB
"""Never changed: files that were cut by another average share no chunks. The notes are 20 bytes a chunk, 0.12%."""
DIGEST_BYTES = 16
Chunk = tuple[bytes, int]
"""Digest and size."""


def cut(path: Path) -> Iterator[Chunk]:
    """Yield a file's chunks in order, of 4 to 64 KiB and 16 on average.

    Source: Xia et al., "The Design of Fast Content-Defined Chunking for Data Deduplication Based Storage Systems",
    IEEE TPDS 31(9), 2020; by pyfastcdc, which gives the cuts of fastcdc-rs.

    Raises:
        EnvironmentProblem: pyfastcdc is not installed.
    """
    try:
        from pyfastcdc import FastCDC
    except ImportError as error:
        raise EnvironmentProblem("to send only what changed, install isthmus[push]") from error
    for chunk in FastCDC(AVERAGE_BYTES).cut_file(path):
        yield hashlib.sha256(chunk.data).digest()[:DIGEST_BYTES], chunk.length


def available() -> bool:
    """Whether files can be cut here."""
    try:
        import pyfastcdc
    except ImportError:
        return False
    return bool(pyfastcdc)


def noted(chunks: list[Chunk]) -> Chunks:
    """Return chunks as a document."""
    sizes = array.array("I", (size for _, size in chunks))
    if sys.byteorder == "big":
        sizes.byteswap()
    return Chunks(digests=b"".join(digest for digest, _ in chunks), sizes=sizes.tobytes())


def read(document: Chunks) -> list[Chunk]:
    """Return a document's chunks.

    Raises:
        InvalidDocument: it is not whole.
    """
    sizes = array.array("I")
    if sizes.itemsize != 4 or len(document.digests) * 4 != len(document.sizes) * DIGEST_BYTES:
        raise InvalidDocument("the notes of a file's chunks are not whole")
    sizes.frombytes(document.sizes)
    if sys.byteorder == "big":
        sizes.byteswap()
    steps = range(0, len(document.digests), DIGEST_BYTES)
    return [(document.digests[at : at + DIGEST_BYTES], size) for at, size in zip(steps, sizes, strict=True)]


def differences(new: list[Chunk], old: list[Chunk]) -> list[tuple[bool, int, int]]:
    """Return a file as pieces ``(is_new, start, stop)``: of itself where they are new, else of the old file.

    Neighbours are joined; together the pieces are the new file, in order.
    """
    places: dict[Chunk, int] = {}
    stands: dict[int, Chunk] = {}
    at = 0
    for chunk in old:
        places.setdefault(chunk, at)
        stands[at] = chunk
        at += chunk[1]
    pieces: list[tuple[bool, int, int]] = []
    position = 0
    for chunk in new:
        is_new = chunk not in places
        start = position if is_new else places[chunk]
        if pieces and pieces[-1][0] is is_new:
            last = pieces[-1]
            # Of chunks that occur more than once, the one that follows in the old file.
            if is_new or stands.get(last[2]) == chunk:
                start = last[2]
            if start == last[2]:
                pieces[-1] = (is_new, last[1], start + chunk[1])
                position += chunk[1]
                continue
        pieces.append((is_new, start, start + chunk[1]))
        position += chunk[1]
    return pieces
