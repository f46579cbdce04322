"""A connected socket, plain or under TLS, with the same three verbs; and who may be at its other end.

Reads and writes wait in the kernel for a short while at most (``SO_RCVTIMEO``, ``SO_SNDTIMEO``: one call each,
where Python's own timeouts poll first), so that who waits can look at the clock and at the other direction.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from isthmus.errors import EnvironmentProblem, PeerUntrusted
from isthmus.model.units import KIB, MIB

SLICE_SECONDS = 0.02
"""The longest wait in the kernel."""
CONGESTION_CONTROL = b"cubic"
"""A direct stream stays within a private network: what paces for the open internet (bbr) costs it a third."""
AWAKE_SECONDS = 100e-6
"""What a connection whose other side answers at once is read without sleeping."""
GATHERED_BYTES = 160 * KIB
PART_SECONDS = 1.0
PART_BYTES = 4 * MIB
"""What who failed a handshake may still send, so that it reads why."""
JOINED_BYTES = 16 * KIB
"""Smaller pieces go under TLS as one: each write is a record of its own, of at most this size."""
_TIMEVAL = struct.Struct("@ll")


@dataclass(frozen=True)
class Tls:
    """Mutual TLS 1.3: our certificate and key (PEM), the authority that signs the others', and the others' names.

    ``peers``: names (subjectAltName, DNS) of which the other side's certificate must have one.
    """

    certificate: Path
    key: Path
    authority: Path
    peers: frozenset[str]


class Wire(Protocol):
    """A connection. What comes back without a byte moved raises BlockingIOError."""

    def send(self, pieces: Sequence[memoryview | bytes]) -> int:
        """Return how many bytes went; fewer than all when there was no room for a while."""

    def send_now(self, pieces: Sequence[memoryview | bytes]) -> int:
        """The same, without a wait."""

    def receive(self, into: memoryview) -> int:
        """Return how many bytes came; none when the other side has finished."""

    def receive_soon(self, into: memoryview) -> int:
        """The same, for the beginning of what may come at once."""

    def receive_both(self, first: memoryview, second: memoryview) -> int:
        """Fill ``first`` and, if the kernel has more at hand, ``second``; return the bytes of both."""

    def wait(self, seconds: float, *, writable: bool = False) -> bool:
        """Return whether something can be read, after ``seconds`` at most, or once there is room to write."""

    def close(self) -> None: ...


class PlainWire:
    """TCP."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        connected.settimeout(None)
        span = _TIMEVAL.pack(0, int(SLICE_SECONDS * 1e6))
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            connected.setsockopt(socket.SOL_SOCKET, option, span)
        self.send = connected.sendmsg
        self.receive = connected.recv_into
        self._soon = False

    def receive_soon(self, into: memoryview) -> int:
        # What answers at once is waited for awake: to fall asleep and be woken takes longer than a small message.
        # Only where the last one came so, so that an idle connection costs nothing.
        receive, started = self._socket.recv_into, time.perf_counter()
        if self._soon:
            until = started + AWAKE_SECONDS
            while time.perf_counter() < until:
                try:
                    return receive(into, 0, socket.MSG_DONTWAIT)
                except BlockingIOError:
                    os.sched_yield()  # the other side may need this very core to answer
        got = receive(into)
        self._soon = time.perf_counter() - started < AWAKE_SECONDS
        return got

    def send_now(self, pieces: Sequence[memoryview | bytes]) -> int:
        return self._socket.sendmsg(pieces, [], socket.MSG_DONTWAIT)

    def receive_both(self, first: memoryview, second: memoryview) -> int:
        return self._socket.recvmsg_into([first, second])[0]

    def wait(self, seconds: float, *, writable: bool = False) -> bool:
        return _wait(self._socket, select.POLLIN | (select.POLLOUT if writable else 0), seconds)

    def close(self) -> None:
        _close(self._socket)


class TlsWire:
    """TLS over TCP. One thread at a time is inside OpenSSL, which allows no more; waiting is outside of it."""

    def __init__(self, connected: ssl.SSLSocket) -> None:
        self._socket = connected
        connected.settimeout(0)
        self._gathering = 0
        self._lock = threading.Lock()

    def send(self, pieces: Sequence[memoryview | bytes]) -> int:
        try:
            return self.send_now(pieces)
        except BlockingIOError:
            _wait(self._socket, select.POLLOUT, SLICE_SECONDS)
            return self.send_now(pieces)

    def send_now(self, pieces: Sequence[memoryview | bytes]) -> int:
        # What did not go must be offered again, at the same length or longer: OpenSSL has encrypted a part of it.
        piece = pieces[0] if len(pieces) == 1 or len(pieces[0]) >= JOINED_BYTES else _joined(pieces)
        try:
            with self._lock:
                return self._socket.send(piece)
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            raise BlockingIOError from None

    def receive(self, into: memoryview) -> int:
        return self._receive(into, len(into))

    def _receive(self, into: memoryview, missing: int) -> int:
        """``missing``: how many bytes are sure to come."""
        try:
            with self._lock:
                return self._socket.recv_into(into)
        except ssl.SSLWantReadError:
            self._let_gather(missing)
            _wait(self._socket, select.POLLIN, SLICE_SECONDS)
        except ssl.SSLWantWriteError:
            _wait(self._socket, select.POLLOUT, SLICE_SECONDS)
        except ssl.SSLEOFError:
            return 0
        raise BlockingIOError

    def receive_soon(self, into: memoryview) -> int:
        # The next message may be small: to be woken only for more would leave it lying.
        if self._gathering:
            self._let_gather(0)
        return self._receive(into, 0)

    def _let_gather(self, missing: int) -> None:
        """Be woken for several records at once, where so many are still to come that they surely will."""
        wanted = max(0, min(missing, GATHERED_BYTES) - 2 * JOINED_BYTES)
        if wanted != self._gathering:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, max(1, wanted))
            self._gathering = wanted

    def receive_both(self, first: memoryview, second: memoryview) -> int:
        return self.receive(first)

    def wait(self, seconds: float, *, writable: bool = False) -> bool:
        with self._lock:
            there = self._socket.pending()
        return bool(there) or _wait(
            self._socket, select.POLLIN | (select.POLLOUT if writable else 0), seconds
        )

    def names(self) -> set[str]:
        """Return the names that the other side's certificate gives it."""
        found: Any = (self._socket.getpeercert() or {}).get("subjectAltName", ())
        return {str(value) for kind, value in found if kind == "DNS"}

    def close(self) -> None:
        _close(self._socket)


def dial(address: tuple[str, int], settings: ssl.SSLContext | None, deadline: float) -> Wire:
    """Connect; ``check_name`` is still to do. ``settings``: of TLS, by ``context``.

    Raises:
        OSError: nobody is there now.
        PeerUntrusted: who is there is not who should be, or does not speak TLS.
    """
    left = max(0.001, deadline - time.monotonic())
    return secure(socket.create_connection(address, timeout=left), settings, left, server=False)


def secure(
    connected: socket.socket, settings: ssl.SSLContext | None, seconds: float, *, server: bool
) -> Wire:
    """Return the wire of a connected socket, TLS's handshake done; ``check_name`` is still to do.

    Raises:
        OSError, PeerUntrusted: as ``dial``; the socket is closed then.
    """
    try:
        _tune(connected)
        if settings is None:
            return PlainWire(connected)
        connected.settimeout(seconds)
        wrapped = settings.wrap_socket(connected, server_side=server, do_handshake_on_connect=False)
        connected = wrapped
        wrapped.do_handshake()
        return TlsWire(wrapped)
    except BaseException as error:
        _part(connected)
        if isinstance(error, ssl.SSLError) and is_mistrust(error):
            raise untrusted(error) from error
        raise


def is_mistrust(error: ssl.SSLError) -> bool:
    """Whether TLS failed for who is there, and not for a broken line.

    WRONG_VERSION_NUMBER may be either: a peer without TLS, or a record whose first bytes were lost. Whoever connects
    tries a few times before he believes the first.
    """
    return any(word in (error.reason or "") for word in ("CERTIFICATE", "UNKNOWN_CA", "PEER_DID_NOT"))


def is_break(error: Exception) -> bool:
    """Whether a connection ended within TLS's handshake, which says nothing of who is there."""
    return isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError))


def untrusted(error: ssl.SSLError) -> PeerUntrusted:
    """Return what a failure of TLS means."""
    return PeerUntrusted(
        f"the other side and this one do not accept each other by TLS: {error.reason or error}; "
        "both need a certificate of the same authority that is valid now"
    )


def context(tls: Tls, *, server: bool) -> ssl.SSLContext:
    """Return the settings of one side.

    Raises:
        EnvironmentProblem: a file is missing or is no certificate or key.
    """
    for path in (tls.authority, tls.certificate, tls.key):
        if not path.is_file():
            raise EnvironmentProblem(
                f"TLS needs an authority, a certificate and a key; there is no file {path}"
            )
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    found.minimum_version = ssl.TLSVersion.TLSv1_3
    found.check_hostname = False  # names are of peers, not of hosts: ``_check_name``
    found.verify_mode = ssl.CERT_REQUIRED
    found.options |= getattr(ssl, "OP_ENABLE_KTLS", 0)
    if server:
        found.num_tickets = 0
    try:
        found.load_verify_locations(tls.authority)
        found.load_cert_chain(tls.certificate, tls.key)
    except (OSError, ssl.SSLError) as error:
        raise EnvironmentProblem(
            f"TLS needs {tls.authority}, {tls.certificate} and {tls.key}: {error}"
        ) from error
    return found


def check_name(wire: Wire, tls: Tls | None) -> None:
    """Compare the name of who is at the other end with those that may be.

    Raises:
        PeerUntrusted: it is another, and the connection is still open.
    """
    if tls is not None and isinstance(wire, TlsWire) and not (names := wire.names()) & tls.peers:
        raise PeerUntrusted(
            f"the other side is {', '.join(sorted(names)) or 'nameless'} by its certificate, "
            f"not {' or '.join(sorted(tls.peers))}"
        )


def _joined(pieces: Sequence[memoryview | bytes]) -> bytes:
    """Return pieces as one, up to the first large one, which is not copied."""
    small = list(itertools.takewhile(lambda piece: len(piece) < JOINED_BYTES, pieces))
    return b"".join(small)


def _wait(source: socket.socket, events: int, seconds: float) -> bool:
    poll = select.poll()
    try:
        poll.register(source, events)
    except ValueError as error:
        raise ConnectionAbortedError("the connection was closed here") from error
    return any(found & ~select.POLLOUT for _, found in poll.poll(math.ceil(max(0.0, seconds) * 1000)))


def _tune(connected: socket.socket) -> None:
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with contextlib.suppress(OSError, AttributeError):
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, CONGESTION_CONTROL)


def _part(connected: socket.socket) -> None:
    """Close after a failed handshake, once the other side has read why: unread bytes would reset the connection."""
    plain, until, taken = socket.socket(fileno=connected.detach()), time.monotonic() + PART_SECONDS, 0
    with contextlib.suppress(OSError), plain:
        plain.shutdown(socket.SHUT_WR)
        while taken < PART_BYTES and (left := until - time.monotonic()) > 0:
            plain.settimeout(left)
            if not (got := len(plain.recv(JOINED_BYTES))):
                return
            taken += got


def _close(connected: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connected.shutdown(socket.SHUT_RDWR)
    connected.close()
