"""One connection as frames: written whole, read piece by piece, each piece hashed while it is in the cache."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from isthmus.errors import DeadlineExceeded, InvalidFrame, PayloadTooLarge
from isthmus.model.units import KIB, MIB, format_bytes
from isthmus.transport.buffers import Buffers
from isthmus.transport.casts import Table, read_table
from isthmus.transport.frames import (
    DATA,
    HEADER_BYTES,
    TRAILER,
    Frame,
    Head,
    check_table,
    checksums,
    read_head,
    write_head,
)
from isthmus.transport.session import Kept
from isthmus.transport.wires import Wire

if TYPE_CHECKING:
    from numpy.typing import NDArray

STAGE_BYTES = 64 * KIB
SMALL_BYTES = 16 * KIB
"""A payload that is copied, to be written and hashed in one call each."""
READ_BYTES = 256 * KIB
"""Of one read of a payload: it is hashed before the processor's cache has forgotten it."""
WRITE_BYTES = MIB
"""Of one write of a payload; likewise."""
PIECES = 64
"""Of one call; the kernel takes 1,024."""
Meanwhile = Callable[[], None]
_EMPTY = memoryview(b"")


class Link:
    """Frames over a wire. One thread writes and one reads at a time."""

    def __init__(self, wire: Wire, buffers: Buffers, max_bytes: int) -> None:
        self._wire = wire
        self._buffers = buffers
        self.max_bytes = max_bytes
        self._hash = checksums().xxh3_64
        self._digest = checksums().xxh3_64_intdigest
        self._stage = memoryview(bytearray(STAGE_BYTES + READ_BYTES))
        self._start = self._end = 0
        self._head: Head | None = None
        self._table = b""
        self._arrays: Table | None = None
        self._payload: NDArray[Any] | None = None
        self._view = _EMPTY
        self._filled = 0
        self._whole = False
        self._sum: Any = None
        self.quiet = False
        """Whether the last read brought nothing."""
        self.wait = wire.wait
        self.close = wire.close

    def write(
        self, kind: int, acknowledged: int, table: bytes, deadline: float, meanwhile: Meanwhile
    ) -> None:
        """Write a frame without a payload.

        Raises:
            DeadlineExceeded: and the connection is of no use any more.
        """
        self._send([write_head(kind, 0, acknowledged, table)], deadline, meanwhile)

    def write_message(self, kept: Kept, acknowledged: int, deadline: float, meanwhile: Meanwhile) -> None:
        """Write a message, and note its checksum.

        Raises:
            DeadlineExceeded: as ``write``.
            InvalidFrame: its bytes are not those that were sent the first time.
        """
        packed = kept.packed
        if packed.size_bytes <= SMALL_BYTES:
            self._send([self._small(kept, acknowledged)], deadline, meanwhile)
            return
        waiting: list[memoryview | bytes] = [
            write_head(DATA, kept.sequence, acknowledged, packed.table, packed.size_bytes)
        ]
        digest, unsent = self._hash(seed=kept.sequence), 0
        for piece in packed.pieces:
            for start in range(0, len(piece), WRITE_BYTES):
                if unsent >= WRITE_BYTES:
                    self._send(waiting, deadline, meanwhile)
                    _check_time(deadline)
                    waiting, unsent = [], 0
                part = piece[start : start + WRITE_BYTES]
                digest.update(part)
                waiting.append(part)
                unsent += len(part)
        waiting.append(_sealed(kept, digest.intdigest()))
        self._send(waiting, deadline, meanwhile)

    def read(self) -> Frame | None:
        """Read once, for a short while at most; return a frame if one is complete.

        Raises:
            InvalidFrame: what came is no frame, or not the one that was sent.
            PayloadTooLarge: a frame's payload is larger than this side takes.
            ConnectionError: the connection ended.
        """
        frame, self.quiet = self._parse(), False
        if frame is None:
            self.quiet = not self._fill()
            frame = None if self.quiet else self._parse()
        return frame

    def _small(self, kept: Kept, acknowledged: int) -> bytes:
        table, pieces, size = kept.packed
        head = write_head(DATA, kept.sequence, acknowledged, table, size)
        if not size:
            return head
        payload = b"".join(pieces)
        return b"".join((head, payload, _sealed(kept, self._digest(payload, kept.sequence))))

    def _send(self, pieces: list[memoryview | bytes], deadline: float, meanwhile: Meanwhile) -> None:
        send = self._wire.send
        while pieces:
            try:
                sent = send(pieces[:PIECES])
            except BlockingIOError:
                sent = 0
            while pieces and sent >= len(pieces[0]):
                sent -= len(pieces.pop(0))
            if sent:
                pieces[0] = memoryview(pieces[0])[sent:]
            if pieces:
                _check_time(deadline)
            if pieces and not len(pieces) > PIECES:
                # The other side may be waiting for us to read: from here on nothing waits for room alone.
                send = self._wire.send_now
                meanwhile()

    def _fill(self) -> bool:
        """Read once; False when nothing came."""
        missing = len(self._view) - self._filled
        try:
            if missing > READ_BYTES:
                got = self._wire.receive(self._view[self._filled : self._filled + READ_BYTES])
            elif missing:
                got = self._wire.receive_both(self._view[self._filled :], self._stage[:STAGE_BYTES])
                self._start, self._end = 0, max(0, got - missing)
            else:
                self._tidy()
                got = self._wire.receive_soon(self._stage[self._end : self._end + STAGE_BYTES])
                self._end += got
        except BlockingIOError:
            return False
        if got == 0:
            raise ConnectionResetError("the other side ended the connection")
        if missing:
            self._take(min(got, missing))
        return True

    def _tidy(self) -> None:
        """Move what is staged to the front, where it may not fit behind."""
        if self._start == self._end:
            self._start = self._end = 0
        elif self._start > READ_BYTES - STAGE_BYTES:
            rest = bytes(self._stage[self._start : self._end])
            self._stage[: len(rest)] = rest
            self._start, self._end = 0, len(rest)

    def _take(self, count: int) -> None:
        self._sum.update(self._view[self._filled : self._filled + count])
        self._filled += count

    def _parse(self) -> Frame | None:
        if self._head is None and not self._begin():
            return None
        head = self._head
        if head is None or self._filled < len(self._view):
            return None
        if head.payload_bytes and not self._whole and not self._ends_well(head):
            return None
        frame = Frame(head.kind, head.sequence, head.acknowledged, self._table, self._arrays, self._payload)
        self._head, self._payload, self._view, self._filled, self._whole = None, None, _EMPTY, 0, False
        return frame

    def _begin(self) -> bool:
        """Read header and table, if they are there, and make room for the payload."""
        staged = self._stage[self._start : self._end]
        if len(staged) < HEADER_BYTES:
            return False
        head = read_head(staged)
        size = HEADER_BYTES + head.table_bytes
        if head.payload_bytes > self.max_bytes:
            needed, most = format_bytes(head.payload_bytes), format_bytes(self.max_bytes)
            raise PayloadTooLarge(f"a message is {needed}; at most {most} is taken: send smaller batches")
        if len(staged) < size:
            return False
        self._table = bytes(staged[HEADER_BYTES:size])
        check_table(self._table, head)
        self._arrays = read_table(self._table, head.payload_bytes) if head.kind == DATA else None
        if head.kind != DATA and head.payload_bytes:
            raise InvalidFrame(f"a frame of kind {head.kind} brings {head.payload_bytes} bytes; it has none")
        self._head = head
        self._start += size
        if head.payload_bytes <= min(SMALL_BYTES, self._end - self._start - TRAILER.size):
            self._take_small(head)
        elif head.payload_bytes:
            self._payload = self._buffers.take(head.payload_bytes)
            self._view = memoryview(self._payload)
            self._sum = self._hash(seed=head.sequence)
            count = min(self._end - self._start, head.payload_bytes)
            self._view[:count] = self._stage[self._start : self._start + count]
            self._start += count
            self._take(count)
        return True

    def _take_small(self, head: Head) -> None:
        """Take a payload that has come whole."""
        import numpy as np

        if head.payload_bytes:
            payload = bytes(self._stage[self._start : self._start + head.payload_bytes])
            self._payload = np.frombuffer(payload, np.uint8)
            self._start += head.payload_bytes
            self._check_sum(head, self._digest(payload, head.sequence))
        self._whole = True

    def _check_sum(self, head: Head, found: int) -> None:
        if TRAILER.unpack_from(self._stage, self._start)[0] != found:
            raise InvalidFrame(f"the bytes of message {head.sequence} are not those that were sent")
        self._start += TRAILER.size

    def _ends_well(self, head: Head) -> bool:
        """Compare a payload with the checksum after it; False when that is not there yet."""
        if self._end - self._start < TRAILER.size:
            return False
        self._check_sum(head, self._sum.intdigest())
        return True


def _check_time(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise DeadlineExceeded("the other side did not take a message in time")


def _sealed(kept: Kept, found: int) -> bytes:
    """Return what follows a payload. Raises InvalidFrame when it is not what was sent the first time."""
    if kept.checksum is not None and kept.checksum != found:
        raise InvalidFrame(
            f"the arrays of message {kept.sequence} were written to after they were sent, "
            "and have to be sent again"
        )
    kept.checksum = found
    return TRAILER.pack(found)
