"""A channel over connections that may break: what was not taken is sent again over the next one.

No thread of its own: who sends or receives also does what the connection needs. A lock for writing orders
the messages; one thread at a time reads, whichever waits for something.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from isthmus.errors import (
    ChannelClosed,
    DeadlineExceeded,
    InvalidFrame,
    IsthmusError,
    PayloadTooLarge,
    PeerUntrusted,
    SessionLost,
)
from isthmus.model.sliced import Cast
from isthmus.model.units import format_bytes
from isthmus.transport.casts import pack
from isthmus.transport.frames import ACKNOWLEDGE, BYE, DATA, REFUSED, Frame, Refusal, read_document
from isthmus.transport.link import Link
from isthmus.transport.objects import message_of
from isthmus.transport.ports import MAX_MESSAGE_BYTES, Tensors
from isthmus.transport.session import Incoming, Kept, Outgoing, Window
from isthmus.transport.wires import SLICE_SECONDS

if TYPE_CHECKING:
    from numpy.typing import NDArray

FAULTS = 8
"""Connections in a row that may bring something invalid before that is an error: a line may garble a frame."""
REST_SECONDS = 0.25
"""The longest that a thread waits before it looks whether anything has changed."""
LINGER_SECONDS = 2.0
"""What closing waits for the other side to take what was sent."""
Join = Callable[["StreamChannel", float], tuple[Link, int]]
"""Gives a new connection, and how many messages the other side has. Raises what ends the channel, or OSError."""
ENDS = (ChannelClosed, PayloadTooLarge, PeerUntrusted, SessionLost)


class StreamChannel:
    """One end. ``join`` is asked for a connection whenever there is none."""

    def __init__(self, join: Join, *, cast: Cast, max_bytes: int = MAX_MESSAGE_BYTES, window: Window) -> None:
        self._join = join
        self._cast = cast
        self._max_bytes = max_bytes
        self._outgoing = Outgoing(window)
        self._incoming = Incoming(window)
        self._inbox: deque[Frame] = deque()
        self._writing = threading.RLock()
        self._changed = threading.Condition(threading.Lock())
        self._reading = threading.Lock()
        self._waiting = 0
        self._link: Link | None = None
        self._ended: IsthmusError | None = None
        self._leaving = False
        self._faults = 0
        self._lost_at = time.monotonic()

    @property
    def received(self) -> int:
        """How many messages of the other side have come."""
        return self._incoming.received

    def send(self, tensors: Tensors, *, deadline: float) -> None:
        packed = pack(tensors, self._cast)
        if packed.size_bytes > self._max_bytes:
            size, most = format_bytes(packed.size_bytes), format_bytes(self._max_bytes)
            raise PayloadTooLarge(f"a message is {size}; at most {most} is sent: send smaller batches")
        self._acquire(deadline)
        try:
            if not self._outgoing.has_room(packed.size_bytes):
                self._wait(lambda: self._outgoing.has_room(packed.size_bytes), deadline)
            if self._ended is not None:
                raise self._ended
            with self._changed:
                kept = self._outgoing.add(packed)
            self._deliver(kept, deadline)
        finally:
            self._writing.release()

    def receive(self, *, deadline: float) -> dict[str, NDArray[Any]]:
        if not self._inbox:
            try:
                self._wait(self._has_message, deadline, idle=self._acknowledge)
            except ChannelClosed:
                self._acknowledge()  # who closed waits for it
                raise
        frame = self._inbox.popleft()
        self._incoming.take(0 if frame.payload is None else frame.payload.size)
        if self._incoming.is_due or self._ended is not None:
            self._acknowledge()
        return message_of(frame)

    def _has_message(self) -> bool:
        return bool(self._inbox)

    def close(self) -> None:
        if self._ended is None:
            with suppress(IsthmusError, OSError):
                self._say_goodbye(time.monotonic() + LINGER_SECONDS)
        self._end(ChannelClosed("this side closed the channel"))

    def open(self, deadline: float) -> None:
        """Get the first connection. Raises what ``Transport.connect`` does."""
        self._reconnect(deadline)

    def check(self) -> None:
        """Raises what ended the channel, if it has ended."""
        if self._ended is not None:
            raise self._ended

    def is_over(self, now: float, kept_seconds: float) -> bool:
        """Whether it ended, or has had no connection for longer than ``kept_seconds``."""
        return self._ended is not None or (self._link is None and now - self._lost_at > kept_seconds)

    def renew(self) -> None:
        """Give the connection up for a newer one, which whoever waits asks for."""
        self._lose(self._link, ConnectionAbortedError("the other side has connected anew"))

    def _say_goodbye(self, deadline: float) -> None:
        if self._outgoing.pending:
            self._reconnect(deadline)
        self._acquire(deadline)
        try:
            if (link := self._link) is None:
                return
            link.write(BYE, self._incoming.tell(), b"", deadline, partial(self._read_beside, link))
            self._leaving = True
        finally:
            self._writing.release()
        # Closed with unread bytes, a socket is reset, which can destroy what is still on its way.
        self._wait(lambda: not self._outgoing.pending, deadline)

    def _acquire(self, deadline: float) -> None:
        """Become the one that writes."""
        if self._writing.acquire(blocking=False):
            return
        if not self._writing.acquire(timeout=max(0, deadline - time.monotonic())):
            raise DeadlineExceeded("another thread was sending for all of the time")

    def _deliver(self, kept: Kept, deadline: float) -> None:
        link = self._link
        if link is None:
            self._connect(deadline)
            return
        try:
            link.write_message(kept, self._incoming.tell(), deadline, partial(self._read_beside, link))
        except OSError as error:
            self._lose(link, error)
            self._connect(deadline)
        except IsthmusError as error:
            self._lose(link, error)
            raise

    def _connect(self, deadline: float) -> None:
        """Get a connection, and send what the other side has not got. The writer's lock is held."""
        while self._link is None:
            if self._ended is not None:
                raise self._ended
            try:
                link, has = self._join(self, deadline)
            except DeadlineExceeded:
                raise
            except IsthmusError as error:
                self._end(error)
                raise
            try:
                missing = self._outgoing.missing(has)
                with self._changed:
                    self._link = link
                    self._tell()
                for kept in missing:
                    link.write_message(
                        kept, self._incoming.tell(), deadline, partial(self._read_beside, link)
                    )
            except (OSError, IsthmusError) as error:
                self._lose(link, error)
                if isinstance(error, DeadlineExceeded) or self._ended is not None:
                    raise

    def _wait(
        self, done: Callable[[], bool], deadline: float, *, idle: Callable[[], None] | None = None
    ) -> None:
        """Read frames until ``done``; ``idle`` is called once when none comes at first."""
        while not done():
            if self._ended is not None:
                raise self._ended
            link = self._link
            if link is None:
                if self._leaving:
                    raise ChannelClosed("the other side ended the connection after this one's goodbye")
                self._reconnect(deadline)
            elif self._claim():
                try:
                    self._read_until(done, link, deadline, idle)
                finally:
                    self._release()
            else:
                with self._changed:
                    self._waiting += 1
                    if self._reading.locked() and not done():
                        self._changed.wait(min(REST_SECONDS, max(0, deadline - time.monotonic())))
                    self._waiting -= 1
            if not done() and time.monotonic() > deadline:
                raise DeadlineExceeded("nothing came from the other side in time")

    def _read_until(
        self, done: Callable[[], bool], link: Link, deadline: float, idle: Callable[[], None] | None
    ) -> None:
        while self._link is link:
            self._step(link)
            if done():
                return
            if link.quiet:
                if idle is not None:
                    idle()
                    idle = None
                else:
                    self._rest(link, deadline)
            if time.monotonic() > deadline:
                return

    def _claim(self) -> bool:
        """Become the one that reads, if nobody is."""
        return self._reading.acquire(blocking=False)

    def _release(self) -> None:
        self._reading.release()
        with self._changed:
            self._tell()

    def _tell(self) -> None:
        if self._waiting:
            self._changed.notify_all()

    def _reconnect(self, deadline: float) -> None:
        # Whoever has the lock is connecting, or about to: looked at again in a moment.
        if self._writing.acquire(timeout=min(REST_SECONDS, max(0, deadline - time.monotonic()))):
            try:
                self._connect(deadline)
            finally:
                self._writing.release()

    def _rest(self, link: Link, deadline: float) -> None:
        try:
            link.wait(min(REST_SECONDS, max(0, deadline - time.monotonic())))
        except OSError as error:
            self._lose(link, error)

    def _read_beside(self, link: Link) -> None:
        """While there is no room to write: read what is there, or wait a moment for either."""
        if not self._claim():
            link.wait(SLICE_SECONDS / 4, writable=True)
            return
        try:
            if link.wait(SLICE_SECONDS, writable=True):
                self._step(link)
        finally:
            self._release()

    def _step(self, link: Link) -> None:
        try:
            frame = link.read()
            if frame is not None:
                self._handle(frame)
        except PayloadTooLarge as error:
            self._refuse(link, error)
        except (OSError, IsthmusError) as error:
            self._lose(link, error)

    def _handle(self, frame: Frame) -> None:
        with self._changed:
            self._outgoing.acknowledge(frame.acknowledged)
            if frame.kind == DATA:
                if self._incoming.is_new(frame.sequence):
                    self._inbox.append(frame)
                self._faults = 0
            elif frame.kind == BYE:
                self._ended = self._ended or ChannelClosed("the other side closed the channel")
            elif frame.kind == REFUSED:
                raise refusal(frame)
            elif frame.kind != ACKNOWLEDGE:
                raise InvalidFrame(f"a frame of kind {frame.kind} came within a session")
            self._tell()

    def _acknowledge(self) -> None:
        """Say what was taken, unless somebody writes at present, whose frame says it."""
        link = self._link
        if (
            link is None
            or self._incoming.told == self._incoming.taken
            or not self._writing.acquire(blocking=False)
        ):
            return
        try:
            deadline = time.monotonic() + LINGER_SECONDS
            link.write(ACKNOWLEDGE, self._incoming.tell(), b"", deadline, lambda: self._read_beside(link))
        except (OSError, IsthmusError) as error:
            self._lose(link, error)
        finally:
            self._writing.release()

    def _refuse(self, link: Link, error: PayloadTooLarge) -> None:
        """A message that is too large would be as large again: this ends the channel for both."""
        table = msgspec.msgpack.encode(Refusal("size", str(error)))
        deadline = time.monotonic() + LINGER_SECONDS
        with suppress(OSError, IsthmusError):
            self._acquire(deadline)
            try:
                link.write(REFUSED, 0, table, deadline, lambda: None)
            finally:
                self._writing.release()
        self._end(error)

    def _lose(self, link: Link | None, error: Exception) -> None:
        """Give a connection up; the channel too, if another one would not help."""
        if isinstance(error, InvalidFrame):
            self._faults += 1
        final = isinstance(error, ENDS) or (isinstance(error, InvalidFrame) and self._faults >= FAULTS)
        with self._changed:
            if self._link is link:
                self._link, self._lost_at = None, time.monotonic()
            if final and isinstance(error, IsthmusError):
                self._ended = self._ended or error
            self._tell()
        if link is not None:
            link.close()

    def _end(self, error: IsthmusError) -> None:
        with self._changed:
            self._ended = self._ended or error
            link, self._link = self._link, None
            self._tell()
        if link is not None:
            link.close()


def refusal(frame: Frame) -> IsthmusError:
    """Return what the other side's refusal means here."""
    said = read_document(frame.table, Refusal)
    kinds = {"session": SessionLost, "size": PayloadTooLarge, "name": PeerUntrusted}
    return kinds[said.why](f"the other side refuses: {said.sentence}")
