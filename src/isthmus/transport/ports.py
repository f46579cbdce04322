"""What every transport is to who uses it.

A deadline is a time of ``time.monotonic()``: one holds over all that is done before it. Arrays that
are received are the receiver's own, and may be read-only. Arrays that are sent must not be written to
until they are answered: a transport may have to send them again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from isthmus.ports import BlobInfo

Tensors = Mapping[str, "NDArray[Any]"]
MAX_MESSAGE_BYTES = 2**30
"""What one message may be, unless a side says otherwise."""


def within(seconds: float) -> float:
    """Return the deadline that is ``seconds`` from now."""
    return time.monotonic() + seconds


class Channel(Protocol):
    """One of the two ends of an exchange; what one sends, the other receives, once and in order.

    One thread may send while another receives. Every call raises what it says, and besides:
    ChannelClosed, SessionLost, PeerUntrusted, InvalidFrame, PayloadTooLarge.
    """

    def send(self, tensors: Tensors, *, deadline: float) -> None:
        """Return when it is on its way, which waits while too much is that the other side has not taken.

        Raises:
            DeadlineExceeded: it could not be handed over in time; it may still arrive.
            InvalidInput: an array is of a type that cannot be sent.
            PayloadTooLarge: the message is larger than the channel takes.
        """

    def receive(self, *, deadline: float) -> dict[str, NDArray[Any]]:
        """Return the next message.

        Raises:
            DeadlineExceeded: none came in time; the next call may get it.
        """

    def close(self) -> None:
        """End it; the other side gets what was sent, then ChannelClosed. Closing again does nothing."""


class Transport(Protocol):
    """A way to one other side."""

    def connect(self, *, deadline: float) -> Channel:
        """Return a new channel.

        Raises:
            DeadlineExceeded: nobody was there in time.
            PeerUntrusted: who is there is somebody else, or refuses us.
        """


class Objects(Protocol):
    """What a relayed stream needs of the place where its messages lie; a ``BlobStore`` has it. Every call raises
    Unavailable where the place does not answer."""

    def create(self, key: str, data: bytes) -> bool:
        """Write unless there is an object of that key; return whether it was written."""

    def get(self, key: str, *, max_bytes: int) -> bytes:
        """Raises MissingFile; LimitExceeded when larger than ``max_bytes``."""

    def keys(self, prefix: str) -> Iterator[BlobInfo]:
        """Yield what there is below a prefix, ordered by key."""

    def delete(self, key: str) -> None:
        """Delete it, if it is there."""


class Listener(Protocol):
    """Where channels come in."""

    def accept(self, *, deadline: float) -> Channel:
        """Return the next new channel.

        Raises:
            DeadlineExceeded: none came in time.
        """

    def close(self) -> None: ...
