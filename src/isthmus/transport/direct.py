"""The direct stream: TCP between two processes that may reach each other, under mutual TLS if they are given any.

The side that connects names its session, and names it again after each break; the side that listens keeps a
session for a while after its connection is gone. Who started anew does not know the other's session, and says so:
the other raises SessionLost, and what it had asked can be asked again.
"""

from __future__ import annotations

import contextlib
import os
import queue
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from isthmus.errors import (
    ChannelClosed,
    DeadlineExceeded,
    InvalidFrame,
    IsthmusError,
    PeerUntrusted,
    SessionLost,
)
from isthmus.model.sliced import Cast
from isthmus.transport.buffers import Buffers
from isthmus.transport.frames import (
    HELLO,
    REFUSED,
    WELCOME,
    Frame,
    Hello,
    Refusal,
    Welcome,
    checksums,
    read_document,
)
from isthmus.transport.link import Link
from isthmus.transport.ports import MAX_MESSAGE_BYTES
from isthmus.transport.session import Window
from isthmus.transport.stream import FAULTS, StreamChannel, refusal
from isthmus.transport.wires import (
    Tls,
    Wire,
    check_name,
    context,
    dial,
    is_break,
    is_mistrust,
    secure,
    untrusted,
)

FIRST_PAUSE_SECONDS = 0.005
LONGEST_PAUSE_SECONDS = 0.5
HANDSHAKE_SECONDS = 5.0
"""What one try to connect may take, and what a listener gives to who connected and says nothing."""
KEPT_SECONDS = 60.0
"""What a session outlives its connection."""
PLAIN = b"this side does not speak TLS\n"
"""What is no record of TLS: who began with TLS knows by it at once that the other side has none."""
MAX_SESSIONS = 1024
MAX_HANDSHAKES = 64


@dataclass(frozen=True)
class Terms:
    """What one side of a direct stream does. ``cast``: of the 32-bit floats that it sends."""

    cast: Cast = ""
    max_bytes: int = MAX_MESSAGE_BYTES
    window: Window = field(default_factory=Window)


class DirectTransport:
    """The side that connects. The files of ``tls`` are read here, once.

    Raises:
        EnvironmentProblem: one of them is missing or is no certificate or key.
    """

    def __init__(self, address: tuple[str, int], *, tls: Tls | None, terms: Terms | None = None) -> None:
        checksums()
        self._address = address
        self._tls = tls
        self._settings = None if tls is None else context(tls, server=False)
        self._terms = terms or Terms()
        self._buffers = Buffers()

    def connect(self, *, deadline: float) -> StreamChannel:
        terms = self._terms
        caller = _Caller(self._address, self._tls, self._settings, self._buffers, terms.max_bytes)
        channel = StreamChannel(caller.join, cast=terms.cast, max_bytes=terms.max_bytes, window=terms.window)
        channel.open(deadline)
        return channel


class _Caller:
    """Makes the connections of one session."""

    def __init__(
        self,
        address: tuple[str, int],
        tls: Tls | None,
        settings: ssl.SSLContext | None,
        buffers: Buffers,
        max_bytes: int,
    ) -> None:
        self._address = address
        self._tls = tls
        self._settings = settings
        self._buffers = buffers
        self._max_bytes = max_bytes
        self._session = os.urandom(16)
        self._fresh = True

    def join(self, channel: StreamChannel, deadline: float) -> tuple[Link, int]:
        pause, faults = FIRST_PAUSE_SECONDS, 0
        while True:
            try:
                return self._try(channel.received, min(deadline, time.monotonic() + HANDSHAKE_SECONDS))
            except (OSError, InvalidFrame, DeadlineExceeded) as error:
                faults += isinstance(error, (InvalidFrame, ssl.SSLError)) and not is_break(error)
                if faults >= FAULTS:
                    raise (
                        untrusted(error) if isinstance(error, ssl.SSLError) else InvalidFrame(str(error))
                    ) from error
                channel.check()
                if time.monotonic() + pause > deadline:
                    host, port = self._address
                    raise DeadlineExceeded(f"{host}:{port} was not reached in time: {error}") from error
            time.sleep(pause * random.uniform(0.5, 1))
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _try(self, received: int, deadline: float) -> tuple[Link, int]:
        wire = dial(self._address, self._settings, deadline)
        link = Link(wire, self._buffers, self._max_bytes)
        try:
            check_name(wire, self._tls)
            greeting = msgspec.msgpack.encode(Hello(self._session, received, self._fresh))
            link.write(HELLO, 0, greeting, deadline, lambda: None)
            frame = _first(link, deadline)
            if frame.kind == REFUSED:
                raise refusal(frame)
            if frame.kind != WELCOME:
                raise InvalidFrame(f"a frame of kind {frame.kind} came where a welcome was due")
            self._fresh = False
            return link, read_document(frame.table, Welcome).received
        except ssl.SSLError as error:
            link.close()
            if is_mistrust(error):
                raise untrusted(error) from error
            raise
        except BaseException:
            link.close()
            raise


class DirectListener:
    """The side that listens. A thread of its own takes connections; each handshake has one while it lasts.

    ``on_refused`` is told of each connection that was not taken, and why. The files of ``tls`` are read here, once.

    Raises:
        EnvironmentProblem: one of them is missing or is no certificate or key.
        OSError: it cannot listen at ``address``.
    """

    def __init__(
        self,
        address: tuple[str, int],
        *,
        tls: Tls | None,
        terms: Terms | None = None,
        on_refused: Callable[[IsthmusError], None] = lambda error: None,
    ) -> None:
        checksums()
        self._tls = tls
        self._settings = None if tls is None else context(tls, server=True)
        self._terms = terms or Terms()
        self._on_refused = on_refused
        self._buffers = Buffers()
        self._sessions: dict[bytes, _Session] = {}
        self._lock = threading.Lock()
        self._new: queue.SimpleQueue[StreamChannel] = queue.SimpleQueue()
        self._places = threading.Semaphore(MAX_HANDSHAKES)
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._socket = socket.create_server(address, family=family, backlog=MAX_HANDSHAKES)
        self._closed = False
        threading.Thread(target=self._take, daemon=True, name="isthmus-listener").start()

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        host, port = self._socket.getsockname()[:2]
        return str(host), int(port)

    def accept(self, *, deadline: float) -> StreamChannel:
        try:
            return self._new.get(timeout=max(0, deadline - time.monotonic()))
        except queue.Empty:
            raise DeadlineExceeded("nobody connected in time") from None

    def close(self) -> None:
        """Take no more connections, and end every channel."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for session in list(self._sessions.values()):
            session.channel.close()

    def _take(self) -> None:
        while True:
            try:
                connected, _ = self._socket.accept()
            except OSError:
                if self._closed:
                    return
                continue
            if self._places.acquire(blocking=False):
                threading.Thread(target=self._greet, args=(connected,), daemon=True).start()
            else:
                connected.close()

    def _greet(self, connected: socket.socket) -> None:
        try:
            self._admit(secure(connected, self._settings, HANDSHAKE_SECONDS, server=True))
        except IsthmusError as error:
            self._on_refused(error)
        except OSError as error:
            if isinstance(error, ssl.SSLError) and not is_break(error):
                self._on_refused(untrusted(error))
            else:
                self._on_refused(ChannelClosed(f"a connection ended before it had begun: {error}"))
        finally:
            self._places.release()

    def _admit(self, wire: Wire) -> None:
        deadline = time.monotonic() + HANDSHAKE_SECONDS
        link = Link(wire, self._buffers, 0)
        try:
            check_name(wire, self._tls)
            hello = _hello(_first(link, deadline))
            session = self._find(hello)
            link.max_bytes = self._terms.max_bytes
            table = msgspec.msgpack.encode(Welcome(session.channel.received))
            link.write(WELCOME, 0, table, deadline, lambda: None)
        except (PeerUntrusted, SessionLost) as error:
            refused = Refusal("name" if isinstance(error, PeerUntrusted) else "session", str(error))
            with contextlib.suppress(OSError, IsthmusError):
                link.write(REFUSED, 0, msgspec.msgpack.encode(refused), deadline, lambda: None)
                _drain(link, deadline)
            link.close()
            raise
        except InvalidFrame:
            if self._settings is None:
                with contextlib.suppress(OSError):
                    wire.send_now([PLAIN])
            link.close()
            raise
        except BaseException:
            link.close()
            raise
        session.give(link, hello.received)

    def _find(self, hello: Hello) -> _Session:
        now = time.monotonic()
        with self._lock:
            for name in [
                name for name, held in self._sessions.items() if held.channel.is_over(now, KEPT_SECONDS)
            ]:
                del self._sessions[name]
            session = self._sessions.get(hello.session)
            if session is None and not hello.fresh:
                raise SessionLost("this side does not know the session: it has started anew, or has ended it")
            if session is None:
                if self._closed or len(self._sessions) >= MAX_SESSIONS:
                    raise SessionLost(f"this side takes no more sessions; it has {len(self._sessions)}")
                session = self._sessions[hello.session] = _Session(self._terms)
                self._new.put(session.channel)
        return session


class _Session:
    """A session of a listener: its channel, and the connection that waits for it."""

    def __init__(self, terms: Terms) -> None:
        self._changed = threading.Condition()
        self._next: tuple[Link, int] | None = None
        self.channel = StreamChannel(
            self._join, cast=terms.cast, max_bytes=terms.max_bytes, window=terms.window
        )

    def give(self, link: Link, received: int) -> None:
        with self._changed:
            older, self._next = self._next, (link, received)
            self._changed.notify_all()
        if older is not None:
            older[0].close()
        self.channel.renew()
        # Who has sent all it had to may not call again for long: what is missing goes now.
        with contextlib.suppress(IsthmusError):
            self.channel.open(time.monotonic() + HANDSHAKE_SECONDS)

    def _join(self, channel: StreamChannel, deadline: float) -> tuple[Link, int]:
        while True:
            with self._changed:
                if self._next is None:
                    self._changed.wait(max(0, min(LONGEST_PAUSE_SECONDS, deadline - time.monotonic())))
                found, self._next = self._next, None
            if found is not None:
                return found
            channel.check()
            if channel.is_over(time.monotonic(), KEPT_SECONDS):
                raise SessionLost(f"the other side has not connected again for {KEPT_SECONDS:.0f} s")
            if time.monotonic() > deadline:
                raise DeadlineExceeded("the other side did not connect again in time")


def _hello(frame: Frame) -> Hello:
    if frame.kind != HELLO:
        raise InvalidFrame(f"a frame of kind {frame.kind} came where a greeting was due")
    return read_document(frame.table, Hello)


def _first(link: Link, deadline: float) -> Frame:
    while True:
        frame = link.read()
        if frame is not None:
            return frame
        if time.monotonic() > deadline:
            raise DeadlineExceeded("the other side did not introduce itself in time")


def _drain(link: Link, deadline: float) -> None:
    """Read until the other side has ended the connection, so that it reads what it was told."""
    while time.monotonic() < deadline:
        link.read()
