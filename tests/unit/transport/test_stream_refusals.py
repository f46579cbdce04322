"""Who may not, or cannot, take part in a stream is told so by one error with a name."""

from __future__ import annotations

import contextlib
import errno
import queue
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from isthmus.errors import (
    DeadlineExceeded,
    EnvironmentProblem,
    InvalidFrame,
    IsthmusError,
    PayloadTooLarge,
    PeerUntrusted,
)
from isthmus.transport.casts import pack
from isthmus.transport.direct import DirectListener, DirectTransport, Terms
from isthmus.transport.frames import DATA, HELLO, write_head
from isthmus.transport.ports import within
from isthmus.transport.wires import Tls, context, secure
from tests.certificates import Authority

Listen = Callable[..., DirectListener]
NOISE = np.random.default_rng(3).bytes(4096)


@pytest.fixture
def refused() -> queue.SimpleQueue[IsthmusError]:
    return queue.SimpleQueue()


@pytest.fixture
def listen(refused: queue.SimpleQueue[IsthmusError]) -> Iterator[Listen]:
    opened: list[DirectListener] = []

    def make(tls: Tls | None = None, terms: Terms | None = None) -> DirectListener:
        opened.append(DirectListener(("127.0.0.1", 0), tls=tls, terms=terms, on_refused=refused.put))
        return opened[-1]

    yield make
    for listener in opened:
        listener.close()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def test_another_authoritys_certificate_is_refused(
    listen: Listen, authority: Authority, tmp_path: Path, refused: queue.SimpleQueue[IsthmusError]
) -> None:
    listener = listen(authority.tls("tail", "head"))
    stranger = Authority(tmp_path, "stranger")
    with pytest.raises(PeerUntrusted, match="certificate"):
        DirectTransport(listener.address, tls=stranger.tls("head", "tail", trusts=authority)).connect(
            deadline=within(20)
        )
    assert isinstance(refused.get(timeout=20), PeerUntrusted)
    with pytest.raises(PeerUntrusted, match="certificate"):
        DirectTransport(listener.address, tls=authority.tls("head", "tail", trusts=stranger)).connect(
            deadline=within(20)
        )


def test_a_certificate_that_has_expired_is_refused(listen: Listen, authority: Authority) -> None:
    listener = listen(authority.tls("tail", "head"))
    with pytest.raises(PeerUntrusted, match=r"(?i)expired"):
        DirectTransport(listener.address, tls=authority.tls("head", "tail", days=-1)).connect(
            deadline=within(20)
        )


def test_a_wrong_name_is_refused_by_either_side(
    listen: Listen, authority: Authority, refused: queue.SimpleQueue[IsthmusError]
) -> None:
    listener = listen(authority.tls("tail", "head"))
    with pytest.raises(PeerUntrusted, match="the other side is tail by its certificate, not body"):
        DirectTransport(listener.address, tls=authority.tls("head", "body")).connect(deadline=within(20))
    with pytest.raises(
        PeerUntrusted, match=r"the other side refuses: .* is hand by its certificate, not head"
    ):
        DirectTransport(listener.address, tls=authority.tls("hand", "tail")).connect(deadline=within(20))


def test_tls_and_none_do_not_meet(listen: Listen, authority: Authority) -> None:
    with pytest.raises(PeerUntrusted, match="do not accept each other by TLS"):
        DirectTransport(listen().address, tls=authority.tls("head", "tail")).connect(deadline=within(20))


def test_a_file_that_is_no_certificate_is_named(listen: Listen, authority: Authority, tmp_path: Path) -> None:
    right = authority.tls("head", "tail")
    wrong = Tls(tmp_path / "none.pem", right.key, right.authority, right.peers)
    with pytest.raises(EnvironmentProblem, match=r"there is no file .*none\.pem"):
        listen(wrong)
    with pytest.raises(EnvironmentProblem, match=r"none\.pem"):
        DirectTransport(listen(authority.tls("tail", "head")).address, tls=wrong).connect(deadline=within(20))


def test_a_message_that_is_too_large_ends_the_channel_for_both(listen: Listen) -> None:
    listener = listen(terms=Terms(max_bytes=1000))
    asks = DirectTransport(listener.address, tls=None).connect(deadline=within(20))
    answers = listener.accept(deadline=within(20))
    asks.send({"x": np.zeros(1001, "u1")}, deadline=within(20))
    with pytest.raises(PayloadTooLarge, match="at most 1000 B is taken"):
        answers.receive(deadline=within(20))
    with pytest.raises(PayloadTooLarge, match="the other side refuses"):
        asks.receive(deadline=within(20))


@pytest.mark.parametrize(
    ("sent", "error", "told"),
    [
        (NOISE, InvalidFrame, "must begin with b'ISTH'"),
        (b"GET / HTTP/1.1\r\nHost: somewhere.example\r\nAccept: */*\r\n\r\n", InvalidFrame, "no slice"),
        (write_head(HELLO, 0, 0)[:-5] + b"12345", InvalidFrame, "not what was sent"),
        (write_head(HELLO, 0, 0, b"\xc1"), InvalidFrame, "no Hello"),
        (write_head(DATA, 0, 0, pack({}, "").table), InvalidFrame, "greeting was due"),
        (write_head(DATA, 0, 0, b"", 2**60), PayloadTooLarge, "at most 0 B"),
    ],
)
def test_who_is_no_slice_is_not_taken_and_others_are(
    listen: Listen, refused: queue.SimpleQueue[IsthmusError], sent: bytes, error: type, told: str
) -> None:
    listener = listen()
    with socket.create_connection(listener.address) as stranger:
        stranger.sendall(sent)
        found = refused.get(timeout=20)
    assert type(found) is error
    assert told in str(found)
    DirectTransport(listener.address, tls=None).connect(deadline=within(20)).close()


def test_a_server_that_is_no_slice_is_an_invalid_frame() -> None:
    server = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        while True:
            try:
                with server.accept()[0] as taken:
                    taken.sendall(NOISE)
                    taken.recv(4096)
            except OSError:
                return

    thread = threading.Thread(target=answer)
    thread.start()
    with pytest.raises(InvalidFrame, match="must begin"):
        DirectTransport(server.getsockname(), tls=None).connect(deadline=within(20))
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()


def test_nobody_there_is_a_deadline_that_passed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = taken.getsockname()
    with pytest.raises(DeadlineExceeded, match=f"127.0.0.1:{address[1]} was not reached in time"):
        DirectTransport(address, tls=None).connect(deadline=within(0.02))


@pytest.mark.parametrize("piece_bytes", [1, 2**20])
def test_who_fails_a_handshake_and_goes_on_sending_is_let_go(authority: Authority, piece_bytes: int) -> None:
    settings, ended = context(authority.tls("tail", "head"), server=True), threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        stranger = socket.create_connection(server.getsockname())
        taken, _ = server.accept()
    stranger.sendall(NOISE)

    def go_on() -> None:
        with contextlib.suppress(OSError), stranger:
            while not ended.wait(0.1 if piece_bytes == 1 else 0):
                stranger.sendall(bytes(piece_bytes))

    def greet() -> None:
        with contextlib.suppress(PeerUntrusted, ssl.SSLError):
            secure(taken, settings, 20, server=True)

    threads = [threading.Thread(target=each, daemon=True) for each in (go_on, greet)]
    for thread in threads:
        thread.start()
    threads[1].join(20)
    let_go = not threads[1].is_alive()
    ended.set()
    assert let_go


def test_a_connection_that_ends_in_the_handshake_is_no_mistrust(authority: Authority) -> None:
    server = socket.create_server(("127.0.0.1", 0))

    def end() -> None:
        with contextlib.suppress(OSError):
            while True:
                with server.accept()[0] as taken:
                    taken.recv(4096)

    thread = threading.Thread(target=end)
    thread.start()
    with pytest.raises(DeadlineExceeded, match="was not reached in time"):
        DirectTransport(server.getsockname(), tls=authority.tls("head", "tail")).connect(deadline=within(1.2))
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()


def test_an_address_of_ipv6_is_listened_on() -> None:
    said = None
    try:
        listener = DirectListener(("::1", 0), tls=None)
        DirectTransport(listener.address, tls=None).connect(deadline=within(20)).close()
        listener.close()
    except OSError as error:
        said = error.errno
    # A machine without IPv6 says that, and not that the address is none.
    assert said in (None, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
