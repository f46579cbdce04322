"""Frames of a stream: a fixed header, a table of the arrays, their bytes, and a checksum after them.

::

    magic "ISTH" · version 1 · kind 1 · unused 2 · sequence 8 · acknowledged 8 · payload bytes 8 ·
    table bytes 4 · table's check 4 · check 4 | table | payload | xxh3 of the payload 8

Little-endian. ``check`` covers the header, so that no size is believed, nothing waited for and nothing allocated,
before it fits; the table, which is checked next, says what the payload is. The payload's checksum follows it: it is
computed piece by piece while the piece is in the processor's cache, on both sides. It is seeded with the sequence
number: no frame's payload passes for another's.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypeVar

import msgspec

from isthmus.errors import EnvironmentProblem, InvalidFrame
from isthmus.transport.casts import Table

xxhash: Any
try:
    import xxhash
except ModuleNotFoundError:  # an extra: ``checksums`` says so when a stream is opened
    xxhash = None

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAGIC = b"ISTH"
VERSION = 1
HEADER = struct.Struct("<4sBBHQQQII")
CHECK = struct.Struct("<I")
TRAILER = struct.Struct("<Q")
HEADER_BYTES = HEADER.size + CHECK.size
MAX_TABLE_BYTES = 64 * 1024

HELLO, WELCOME, DATA, ACKNOWLEDGE, REFUSED, BYE = range(1, 7)
KINDS = frozenset(range(1, 7))
_LOW = 0xFFFFFFFF
Count = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
T = TypeVar("T")


class Hello(msgspec.Struct, frozen=True, array_like=True):
    """Who connects. ``received``: messages of this session that it has; ``fresh``: it never had an answer."""

    session: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
    received: Count
    fresh: bool


class Welcome(msgspec.Struct, frozen=True, array_like=True):
    """The answer. ``received``: messages of this session that the other side has."""

    received: Count


class Refusal(msgspec.Struct, frozen=True, array_like=True):
    """Why there is no going on."""

    why: Literal["name", "session", "size"]
    sentence: Annotated[str, msgspec.Meta(max_length=1000)]


class Frame(NamedTuple):
    """A frame as it came. ``payload``: ``[size]`` uint8, if it brought one; ``arrays``: its table, of DATA."""

    kind: int
    sequence: int
    acknowledged: int
    table: bytes
    arrays: Table | None
    payload: NDArray[Any] | None = None


class Head(NamedTuple):
    """What a header says, once its check fits."""

    kind: int
    sequence: int
    acknowledged: int
    payload_bytes: int
    table_bytes: int
    table_check: int


def checksums() -> Any:
    """Return xxhash. Raises EnvironmentProblem where it is missing."""
    if xxhash is None:
        raise EnvironmentProblem("a stream between slices needs xxhash; install `isthmus[slices]`")
    return xxhash


def write_head(
    kind: int, sequence: int, acknowledged: int, table: bytes = b"", payload_bytes: int = 0
) -> bytes:
    """Return header and table."""
    table_check = xxhash.xxh3_64_intdigest(table) & _LOW
    fields = HEADER.pack(
        MAGIC, VERSION, kind, 0, sequence, acknowledged, payload_bytes, len(table), table_check
    )
    return b"".join((fields, CHECK.pack(xxhash.xxh3_64_intdigest(fields) & _LOW), table))


def read_head(data: memoryview) -> Head:
    """Return what a header says.

    Raises:
        InvalidFrame: it is none, or of a version or kind that is not known, or its table is too large.
    """
    magic, version, kind, unused, sequence, acknowledged, payload_bytes, table_bytes, table_check = (
        HEADER.unpack_from(data)
    )
    if magic != MAGIC:
        raise InvalidFrame(f"a frame must begin with {MAGIC!r}, not {magic!r}: the other side is no slice")
    if CHECK.unpack_from(data, HEADER.size)[0] != xxhash.xxh3_64_intdigest(data[: HEADER.size]) & _LOW:
        raise InvalidFrame("a frame's header is not what was sent: its check does not fit")
    if version != VERSION or kind not in KINDS or unused:
        raise InvalidFrame(
            f"a frame is of version {version} and kind {kind}; needed: version {VERSION}, kinds 1 to 6"
        )
    if table_bytes > MAX_TABLE_BYTES:
        raise InvalidFrame(f"a frame's table is {table_bytes} bytes; at most {MAX_TABLE_BYTES} are read")
    return Head(kind, sequence, acknowledged, payload_bytes, table_bytes, table_check)


def check_table(table: bytes, head: Head) -> None:
    """Compare a table with its check in the header.

    Raises:
        InvalidFrame
    """
    if xxhash.xxh3_64_intdigest(table) & _LOW != head.table_check:
        raise InvalidFrame("a frame's table is not what was sent: its check does not fit")


def read_document(table: bytes, kind: type[T]) -> T:
    """Return the document that a frame's table is.

    Raises:
        InvalidFrame
    """
    try:
        return msgspec.msgpack.decode(table, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidFrame(f"a frame is no {kind.__name__}: {error}") from error
