"""A deadline holds also while bytes keep coming or going, only too slowly."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pytest

from isthmus.errors import DeadlineExceeded
from isthmus.transport.buffers import Buffers
from isthmus.transport.link import Link
from isthmus.transport.ports import within
from isthmus.transport.session import Window
from isthmus.transport.stream import StreamChannel

PIECE_BYTES = 4096
BATCH = {"x": np.arange(50_000, dtype="float32")}


class Memory:
    """A wire into memory and out of it, a little at a time, and always at once."""

    def __init__(self, held: bytes = b"") -> None:
        self.to_come, self.gone = bytearray(held), bytearray()

    def send(self, pieces: Sequence[memoryview | bytes]) -> int:
        part = bytes(pieces[0][:PIECE_BYTES])
        self.gone += part
        return len(part)

    send_now = send

    def receive(self, into: memoryview) -> int:
        size = min(len(into), PIECE_BYTES, len(self.to_come))
        if not size:
            raise BlockingIOError
        into[:size] = self.to_come[:size]
        del self.to_come[:size]
        return size

    receive_soon = receive

    def receive_both(self, first: memoryview, second: memoryview) -> int:
        return self.receive(first)

    def wait(self, seconds: float, *, writable: bool = False) -> bool:
        return True

    def close(self) -> None: ...


def channel(wire: Memory) -> StreamChannel:
    """Return a channel over a wire, on which it comes back after each loss."""
    make = partial(Link, wire, Buffers(), 2**30)
    return StreamChannel(lambda stream, deadline: (make(), 0), cast="", window=Window())


def sent() -> bytes:
    wire = Memory()
    channel(wire).send(BATCH, deadline=within(20))
    return bytes(wire.gone)


def test_a_message_that_comes_too_slowly_is_late_and_the_next_call_gets_it() -> None:
    receiver = channel(Memory(sent()))
    receiver.open(within(20))
    with pytest.raises(DeadlineExceeded):
        receiver.receive(deadline=within(-1))
    np.testing.assert_array_equal(receiver.receive(deadline=within(20))["x"], BATCH["x"])


def test_a_message_that_goes_too_slowly_is_not_taken_in_time() -> None:
    wire = Memory()
    sender = channel(wire)
    sender.open(within(20))
    with pytest.raises(DeadlineExceeded, match="did not take a message in time"):
        sender.send(BATCH, deadline=within(-1))
    assert len(wire.gone) < BATCH["x"].nbytes
