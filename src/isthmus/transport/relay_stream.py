"""A stream through a bucket, both ways at once, for when neither side may listen: each message is an object.

::

    NAME/lives/000007                       each life of who is called has a number: the last counts
    NAME/000007/calls/SESSION               somebody calls
    NAME/000007/SESSION/there/000000000000  messages of who called
    NAME/000007/SESSION/back/000000000000   messages of who was called

Each side writes its own numbers alone, by conditional writes, so a write that has to be repeated changes nothing.
Who reads a message deletes it. A session belongs to one life of who is called, and ends with it; what it leaves
is deleted by the next life. Who called and died calls again, in another session.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from isthmus.errors import (
    ChannelClosed,
    DeadlineExceeded,
    InvalidFrame,
    LimitExceeded,
    MissingFile,
    PayloadTooLarge,
    SessionLost,
    Unavailable,
)
from isthmus.model.sliced import Cast
from isthmus.model.units import KIB, format_bytes
from isthmus.transport.casts import pack
from isthmus.transport.frames import BYE, DATA, checksums
from isthmus.transport.objects import message_of, read_object, write_object
from isthmus.transport.ports import MAX_MESSAGE_BYTES, Objects, Tensors
from isthmus.transport.session import Window
from isthmus.transport.waiting import Waiting

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from isthmus.transport.frames import Frame

MARGIN_BYTES = 128 * KIB
"""Of an object beside its payload."""
STALE_SECONDS = 4.0
AGAIN_SECONDS = 0.5
"""Between two tries to write what may not have been written."""
Side = Literal["there", "back"]
OTHER: dict[Side, Side] = {"there": "back", "back": "there"}


@dataclass(frozen=True)
class RelayTerms:
    """``cast``: of what is sent; ``max_bytes``: of a message; ``window``: messages that may lie in the bucket and not
    be taken yet (of their bytes there is no bound); ``stale_seconds``: of waiting in vain, after which who called asks
    each time whether the other side has begun a new life."""

    cast: Cast = ""
    max_bytes: int = MAX_MESSAGE_BYTES
    window: Window = field(default_factory=Window)
    stale_seconds: float = STALE_SECONDS


class RelayListener:
    """Where calls come in. Begins a new life at once: sessions of an earlier one are over."""

    def __init__(self, store: Objects, name: str, terms: RelayTerms | None = None) -> None:
        checksums()
        self._store = store
        self._name = name
        self._terms = terms or RelayTerms()
        self._seen: set[str] = set()
        self._waiting = Waiting()
        older = _lives(store, name)
        number = int(older[-1]) + 1 if older else 0
        while not store.create(f"{name}/lives/{number:06d}", b""):
            number += 1
        self._life = f"{number:06d}"
        for life in older:
            _clear(store, f"{name}/{life}/")
            store.delete(f"{name}/lives/{life}")

    def accept(self, *, deadline: float) -> RelayStream:
        """Return the stream of the next call.

        Raises:
            DeadlineExceeded: nobody called in time.
        """
        while True:
            if self._waiting.rest(deadline) and (session := self._next()) is not None:
                self._waiting.found()
                # Whose stream has ended will call again, sooner than one who was never there.
                ended = self._waiting.begin
                return RelayStream(self._store, self._name, self._life, session, "back", self._terms, ended)
            if time.monotonic() >= deadline:
                raise DeadlineExceeded(f"nobody called at {self._name} in time")

    def close(self) -> None:
        """Take no more calls. Streams go on, and this life's objects stay: the other side may not have read all."""

    def _next(self) -> str | None:
        prefix = f"{self._name}/{self._life}/calls/"
        with suppress(Unavailable):
            for info in list(self._store.keys(prefix)):
                session = info.key.removeprefix(prefix)
                if session not in self._seen:
                    self._seen.add(session)
                    self._store.delete(info.key)
                    return session
        return None


class RelayCaller:
    """A way to a listener of the same name."""

    def __init__(self, store: Objects, name: str, terms: RelayTerms | None = None) -> None:
        checksums()
        self._store = store
        self._name = name
        self._terms = terms or RelayTerms()

    def connect(self, *, deadline: float) -> RelayStream:
        """Return a new stream, whether or not the other side lives: that shows when it answers.

        Raises:
            DeadlineExceeded: there was no life of it in time.
        """
        waiting = Waiting()
        while True:
            if waiting.rest(deadline) and (lives := _lives(self._store, self._name)):
                session = secrets.token_hex(16)
                self._store.create(f"{self._name}/{lives[-1]}/calls/{session}", b"")
                return RelayStream(self._store, self._name, lives[-1], session, "there", self._terms)
            if time.monotonic() >= deadline:
                raise DeadlineExceeded(f"nobody is to be called at {self._name}")


class RelayStream:
    """One end; what both send goes at once. ``side``: what it writes. ``ended``: is told of the end, maybe twice."""

    def __init__(
        self,
        store: Objects,
        name: str,
        life: str,
        session: str,
        side: Side,
        terms: RelayTerms,
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._name = name
        self._life = life
        self._folder = f"{name}/{life}/{session}"
        self._side: Side = side
        self._terms = terms
        self._ended = ended
        self._sending = threading.Lock()
        self._closed = ""
        self._doubt = ""
        self._sent = self._due = 0
        self._room = terms.window.messages
        self._waiting = Waiting()
        self._stale_after = terms.stale_seconds

    def send(self, tensors: Tensors, *, deadline: float) -> None:
        self._check()
        packed = pack(tensors, self._terms.cast)
        if packed.size_bytes > self._terms.max_bytes:
            size, most = format_bytes(packed.size_bytes), format_bytes(self._terms.max_bytes)
            raise PayloadTooLarge(f"a message is {size}; at most {most} is sent: send smaller batches")
        with self._sending:
            self._await_room(deadline)
            self._write(write_object(DATA, self._sent, packed), deadline)
            self._sent += 1
            self._room -= 1

    def receive(self, *, deadline: float) -> dict[str, NDArray[Any]]:
        trouble: Unavailable | None = None
        while True:
            self._check()
            if self._waiting.rest(deadline):
                try:
                    if (frame := self._look()) is not None:
                        return self._take(frame)
                    self._see_life()
                except Unavailable as error:
                    if isinstance(error, (InvalidFrame, SessionLost, ChannelClosed)):
                        raise
                    trouble = error
            if time.monotonic() >= deadline:
                raise DeadlineExceeded(f"no message came at {self._folder} in time") from trouble

    def close(self) -> None:
        if self._closed:
            return
        self._closed = "this side closed the channel"
        self._ended()
        with self._sending, suppress(Unavailable):
            if not self._doubt:
                self._store.create(self._key(self._side, self._sent), write_object(BYE, self._sent, None))

    def _check(self) -> None:
        if self._closed:
            raise ChannelClosed(self._closed)
        if self._doubt:
            raise SessionLost(f"the session at {self._name} has to begin anew: {self._doubt}")

    def _key(self, side: Side, number: int) -> str:
        return f"{self._folder}/{side}/{number:012d}"

    def _write(self, data: bytes, deadline: float) -> None:
        """Write the next message. Nobody else writes its number, so one that is there already is this one."""
        while True:
            self._check()
            try:
                self._store.create(self._key(self._side, self._sent), data)
                return
            except Unavailable as error:
                if time.monotonic() + AGAIN_SECONDS >= deadline:
                    self._doubt = f"message {self._sent} may have been stored or not: {error}"
                    self._check()
                time.sleep(AGAIN_SECONDS)

    def _await_room(self, deadline: float) -> None:
        """Wait until fewer messages than the window's lie there. They are counted only when all may be taken up."""
        waiting = Waiting()
        while self._room <= 0:
            self._check()
            if waiting.rest(deadline):
                with suppress(Unavailable):
                    self._room = self._terms.window.messages - self._lying()
            if self._room <= 0 and time.monotonic() >= deadline:
                raise DeadlineExceeded(
                    f"the other side has not taken {self._terms.window.messages} messages that were sent before"
                )

    def _lying(self) -> int:
        """Return how many messages were not taken. They are taken in order: one below a gap was taken before, and
        written once more when its answer was lost."""
        there = {info.key for info in self._store.keys(f"{self._folder}/{self._side}/")}
        number = self._sent
        while number and self._key(self._side, number - 1) in there:
            number -= 1
        return self._sent - number

    def _look(self) -> Frame | None:
        key = self._key(OTHER[self._side], self._due)
        try:
            data = self._store.get(key, max_bytes=self._terms.max_bytes + MARGIN_BYTES)
        except MissingFile:
            return None
        except LimitExceeded as error:
            raise PayloadTooLarge(f"a message is too large to be taken: {error}") from error
        return read_object(data, self._due)

    def _take(self, frame: Frame) -> dict[str, NDArray[Any]]:
        self._waiting.found()
        self._stale_after = self._terms.stale_seconds
        with suppress(Unavailable):  # the next life of who is called deletes it as well
            self._store.delete(self._key(OTHER[self._side], self._due))
        self._due += 1
        if frame.kind == BYE:
            self._closed = self._closed or "the other side closed the channel"
            self._ended()
            _clear(self._store, f"{self._folder}/")
            self._check()
        return message_of(frame)

    def _see_life(self) -> None:
        """Of who called: look now and then whether the other side's life is still its last."""
        if self._side == "back" or self._waiting.seconds < self._stale_after:
            return
        self._stale_after = self._waiting.seconds + self._terms.stale_seconds
        if _lives(self._store, self._name)[-1:] != [self._life]:
            self._doubt = "the other side has begun a new life"
            # Nobody else will: the new life has cleared what it found when it began.
            with suppress(Unavailable):
                _clear(self._store, f"{self._folder}/")
            self._check()


def _lives(store: Objects, name: str) -> list[str]:
    prefix = f"{name}/lives/"
    return sorted(info.key.removeprefix(prefix) for info in store.keys(prefix))


def _clear(store: Objects, prefix: str) -> None:
    for info in list(store.keys(prefix)):
        store.delete(info.key)
