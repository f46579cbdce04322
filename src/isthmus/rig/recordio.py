"""RecordIO: one file as one record, in the parts that the format asks for. Standard library alone.

Format: dmlc-core, ``dmlc/recordio.h`` (MXNet's own): magic number, flag and length, data, zeros up to a multiple of
four bytes. Where the magic number itself stands in the data, at a multiple of four, the record is cut, and the number
left out: a reader puts it back between the parts. So nobody who looks for a record's beginning finds a false one.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass

MAGIC = struct.pack("<I", 0xCED7230A)
MAX_RECORD_BYTES = 2**29 - 1
"""A part's length has 29 bits, and a record is cut nowhere but at the magic number."""
WHOLE, FIRST, MIDDLE, LAST = range(4)
PIECE_BYTES = 1 << 20


@dataclass(frozen=True)
class Part:
    """``head``, then the bytes ``[start, stop)`` of the file, then ``padding``."""

    head: bytes
    start: int
    stop: int
    padding: bytes


def parts(file: int, size_bytes: int) -> Iterator[Part]:
    """Yield the parts of an open file's record, at least one. ``size_bytes``: at most ``MAX_RECORD_BYTES``.

    Raises:
        OSError: the file cannot be read.
    """
    start, flag = 0, WHOLE
    for cut in _cuts(file, size_bytes):
        flag = FIRST if start == 0 else MIDDLE
        yield Part(_head(flag, cut - start), start, cut, b"")
        start = cut + len(MAGIC)
    flag = WHOLE if start == 0 else LAST
    yield Part(_head(flag, size_bytes - start), start, size_bytes, b"\0" * (-size_bytes % 4))


def _head(flag: int, length: int) -> bytes:
    return MAGIC + struct.pack("<I", flag << 29 | length)


def _cuts(file: int, size_bytes: int) -> Iterator[int]:
    """Yield where the magic number stands, at multiples of four. Pieces begin at such, so it lies in one of them."""
    for start in range(0, size_bytes, PIECE_BYTES):
        piece, at = os.pread(file, PIECE_BYTES, start), -1
        while (at := piece.find(MAGIC, at + 1)) >= 0:
            if at % len(MAGIC) == 0:
                yield start + at
