"""Both ends in one process: what slices on one machine use, and the stand-in for the other transports in tests.

Messages are packed and unpacked as on a wire, so that casts, types and limits are the same; they are copied once,
because what is received is the receiver's own.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from isthmus.errors import ChannelClosed, DeadlineExceeded, PayloadTooLarge
from isthmus.model.sliced import Cast
from isthmus.model.units import format_bytes
from isthmus.transport.casts import pack, read_table
from isthmus.transport.ports import MAX_MESSAGE_BYTES, Tensors
from isthmus.transport.session import Window

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Pipe:
    """Messages in one direction."""

    def __init__(self, window: Window) -> None:
        self._window = window
        self._waiting: deque[tuple[bytes, NDArray[Any]]] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._closed = False

    def put(self, table: bytes, payload: NDArray[Any], deadline: float) -> None:
        with self._changed:
            self._await(lambda: self._closed or self._has_room(payload.size), deadline, "took")
            if self._closed:
                raise ChannelClosed("the other side closed the channel")
            self._waiting.append((table, payload))
            self._bytes += payload.size
            self._changed.notify_all()

    def get(self, deadline: float) -> tuple[bytes, NDArray[Any]]:
        with self._changed:
            self._await(lambda: self._closed or bool(self._waiting), deadline, "sent")
            if not self._waiting:
                raise ChannelClosed("the other side closed the channel")
            table, payload = self._waiting.popleft()
            self._bytes -= payload.size
            self._changed.notify_all()
        return table, payload

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _has_room(self, size_bytes: int) -> bool:
        few = (
            len(self._waiting) < self._window.messages and self._bytes + size_bytes <= self._window.size_bytes
        )
        return few or not self._waiting

    def _await(self, ready: Any, deadline: float, verb: str) -> None:
        if not self._changed.wait_for(ready, timeout=max(0, deadline - time.monotonic())):
            raise DeadlineExceeded(f"the other side {verb} nothing in time")


class InProcessChannel:
    """One end of a pair."""

    def __init__(self, outgoing: Pipe, incoming: Pipe, cast: Cast, max_bytes: int) -> None:
        self._outgoing = outgoing
        self._incoming = incoming
        self._cast = cast
        self._max_bytes = max_bytes
        self._closed = False

    def send(self, tensors: Tensors, *, deadline: float) -> None:
        import numpy as np

        self._check()
        packed = pack(tensors, self._cast)
        if packed.size_bytes > self._max_bytes:
            size, most = format_bytes(packed.size_bytes), format_bytes(self._max_bytes)
            raise PayloadTooLarge(f"a message is {size}; at most {most} is sent: send smaller batches")
        payload, at = np.empty(packed.size_bytes, np.uint8), 0
        for piece in packed.pieces:
            payload[at : at + len(piece)] = piece
            at += len(piece)
        self._outgoing.put(packed.table, payload, deadline)

    def receive(self, *, deadline: float) -> dict[str, NDArray[Any]]:
        self._check()
        table, payload = self._incoming.get(deadline)
        return read_table(table, payload.size).read(payload)

    def close(self) -> None:
        self._closed = True
        self._outgoing.close()
        self._incoming.close()

    def _check(self) -> None:
        if self._closed:
            raise ChannelClosed("this side closed the channel")


def channel_pair(
    *, cast: Cast = "", max_bytes: int = MAX_MESSAGE_BYTES, window: Window | None = None
) -> tuple[InProcessChannel, InProcessChannel]:
    """Return the two ends of a channel within this process. ``cast``: of what both send."""
    there, back = Pipe(window or Window()), Pipe(window or Window())
    return InProcessChannel(there, back, cast, max_bytes), InProcessChannel(back, there, cast, max_bytes)
