"""What makes a stream that breaks and comes back deliver each message once and in order: numbers, no IO.

Messages are numbered from 0. A sender keeps each until the receiver says that it was taken by who it is for;
after a break both say how many they have, and what is missing is sent again. A number that was had is dropped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from isthmus.errors import InvalidFrame, SessionLost
from isthmus.model.units import MIB
from isthmus.transport.casts import Packed

WINDOW_MESSAGES = 64
WINDOW_BYTES = 128 * MIB


@dataclass(frozen=True)
class Window:
    """What may be on its way and not taken yet; one message always may, however large."""

    messages: int = WINDOW_MESSAGES
    size_bytes: int = WINDOW_BYTES


@dataclass(slots=True)
class Kept:
    """A message that may have to be sent again; ``checksum``: of its payload, once it was sent."""

    sequence: int
    packed: Packed
    checksum: int | None = None


@dataclass(slots=True)
class Outgoing:
    """What was sent and not acknowledged yet."""

    window: Window = field(default_factory=Window)
    following: int = 0
    _kept: deque[Kept] = field(default_factory=deque)
    _bytes: int = 0

    def has_room(self, size_bytes: int) -> bool:
        """Whether a message may go now."""
        few = len(self._kept) < self.window.messages and self._bytes + size_bytes <= self.window.size_bytes
        return few or not self._kept

    def add(self, packed: Packed) -> Kept:
        """Number a message and keep it."""
        kept = Kept(self.following, packed)
        self.following += 1
        self._kept.append(kept)
        self._bytes += packed.size_bytes
        return kept

    def acknowledge(self, count: int) -> None:
        """Forget the messages before ``count``.

        Raises:
            InvalidFrame: so many were never sent.
        """
        if count > self.following:
            raise InvalidFrame(f"the other side acknowledges {count} messages; {self.following} were sent")
        while self._kept and self._kept[0].sequence < count:
            self._bytes -= self._kept.popleft().packed.size_bytes

    def missing(self, received: int) -> Iterator[Kept]:
        """Yield what has to be sent again to a side that has ``received`` messages.

        Raises:
            SessionLost: it needs what it had acknowledged: it is not the one that did.
            InvalidFrame: it has more than was sent.
        """
        if received > self.following:
            raise InvalidFrame(f"the other side has {received} messages; {self.following} were sent")
        first = self._kept[0].sequence if self._kept else self.following
        if received < first:
            raise SessionLost(f"the other side has {received} messages, of {first} that were acknowledged")
        return iter([kept for kept in self._kept if kept.sequence >= received])

    @property
    def pending(self) -> int:
        """How many are not acknowledged."""
        return len(self._kept)


@dataclass(slots=True)
class Incoming:
    """What has come, and how much of it was taken."""

    window: Window = field(default_factory=Window)
    received: int = 0
    taken: int = 0
    told: int = 0
    _bytes: int = 0

    def is_new(self, sequence: int) -> bool:
        """Count a message that came; False when it was had already.

        Raises:
            InvalidFrame: one before it is missing.
        """
        if sequence > self.received:
            raise InvalidFrame(f"message {sequence} came where {self.received} was due")
        if sequence < self.received:
            return False
        self.received += 1
        return True

    def take(self, size_bytes: int) -> None:
        """Count a message that was taken by who it is for."""
        self.taken += 1
        self._bytes += size_bytes

    def tell(self) -> int:
        """Return how many were taken, for a frame that says so."""
        self.told = self.taken
        self._bytes = 0
        return self.taken

    @property
    def is_due(self) -> bool:
        """Whether the other side should be told before it has to wait: a quarter of its window was taken."""
        return (
            self.taken - self.told >= max(1, self.window.messages // 4)
            or self._bytes >= self.window.size_bytes // 4
        )
