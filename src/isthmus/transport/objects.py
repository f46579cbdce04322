"""A message as one object: a frame from header to checksum."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from isthmus.errors import InvalidFrame
from isthmus.transport.casts import Packed, read_table
from isthmus.transport.frames import (
    DATA,
    HEADER_BYTES,
    TRAILER,
    Frame,
    check_table,
    checksums,
    read_head,
    write_head,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray


def write_object(kind: int, sequence: int, packed: Packed | None) -> bytes:
    """Return a message's bytes; ``packed`` is None where it has no arrays."""
    if packed is None:
        return write_head(kind, sequence, 0)
    digest = checksums().xxh3_64(seed=sequence)
    for piece in packed.pieces:
        digest.update(piece)
    head = write_head(kind, sequence, 0, packed.table, packed.size_bytes)
    tail = TRAILER.pack(digest.intdigest()) if packed.size_bytes else b""
    return b"".join((head, *packed.pieces, tail))


def read_object(data: bytes, sequence: int) -> Frame:
    """Return the message that an object is.

    Raises:
        InvalidFrame: it is none, or not the one of that number.
    """
    import numpy as np

    if len(data) < HEADER_BYTES:
        raise InvalidFrame(f"an object of {len(data)} bytes is no message")
    view = memoryview(data)
    head = read_head(view)
    start = HEADER_BYTES + head.table_bytes
    size = start + head.payload_bytes + (TRAILER.size if head.payload_bytes else 0)
    if len(data) != size:
        raise InvalidFrame(f"an object is {len(data)} bytes, but its message is {size}")
    if head.sequence != sequence:
        raise InvalidFrame(f"an object holds message {head.sequence}, not {sequence}, as its key says")
    table = bytes(view[HEADER_BYTES:start])
    check_table(table, head)
    if head.kind != DATA:
        return Frame(head.kind, sequence, 0, table, None)
    payload = view[start : start + head.payload_bytes]
    if payload and TRAILER.unpack_from(data, size - TRAILER.size)[0] != checksums().xxh3_64_intdigest(
        payload, seed=sequence
    ):
        raise InvalidFrame(f"the bytes of message {sequence} are not those that were sent")
    arrays = read_table(table, head.payload_bytes)
    return Frame(head.kind, sequence, 0, table, arrays, np.frombuffer(payload, np.uint8))


def message_of(frame: Frame) -> dict[str, NDArray[Any]]:
    """Return the arrays that a frame brought."""
    import numpy as np

    payload = np.empty(0, np.uint8) if frame.payload is None else frame.payload
    return {} if frame.arrays is None else frame.arrays.read(payload)
