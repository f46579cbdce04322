"""A stream through a bucket whose sides die, and whose requests fail."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from isthmus.adapters.shared_folder import SharedFolder
from isthmus.errors import ChannelClosed, DeadlineExceeded, InvalidFrame, SessionLost, Unavailable
from isthmus.transport.ports import within
from isthmus.transport.relay_stream import RelayCaller, RelayListener, RelayStream, RelayTerms
from isthmus.transport.session import Window

NAME = "relay/worker-0"
QUICK = RelayTerms(stale_seconds=0.05)
SECONDS = 20.0


class Faulty(SharedFolder):
    """A store some of whose answers do not come. ``unheard``: writes that are done; ``undone``: ones that are not."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.unheard = self.undone = self.unread = 0

    def create(self, key: str, data: bytes) -> bool:
        if self.undone:
            self.undone -= 1
            raise Unavailable("the store did not answer")
        written = super().create(key, data)
        if self.unheard:
            self.unheard -= 1
            raise Unavailable("the store did not answer")
        return written

    def get(self, key: str, *, max_bytes: int) -> bytes:
        if self.unread:
            self.unread -= 1
            raise Unavailable("the store did not answer")
        return super().get(key, max_bytes=max_bytes)


@pytest.fixture
def store(tmp_path: Path) -> Faulty:
    return Faulty(tmp_path)


def pair(store: Faulty) -> tuple[RelayStream, RelayStream]:
    listener = RelayListener(store, NAME, QUICK)
    calling = RelayCaller(store, NAME, QUICK).connect(deadline=within(SECONDS))
    return calling, listener.accept(deadline=within(SECONDS))


def number(stream: RelayStream) -> int:
    return int(stream.receive(deadline=within(SECONDS))["x"][0])


def test_both_sides_send_without_waiting_for_each_other(store: Faulty) -> None:
    there, back = pair(store)
    for count in range(5):
        there.send({"x": np.array([count])}, deadline=within(SECONDS))
        back.send({"x": np.array([10 + count])}, deadline=within(SECONDS))
    assert [number(back) for _ in range(5)] == [0, 1, 2, 3, 4]
    assert [number(there) for _ in range(5)] == [10, 11, 12, 13, 14]


def test_several_who_call_have_a_stream_each(store: Faulty) -> None:
    listener = RelayListener(store, NAME)
    for count in range(3):
        calling = RelayCaller(store, NAME).connect(deadline=within(SECONDS))
        calling.send({"x": np.array([count])}, deadline=within(SECONDS))
    heard = [number(listener.accept(deadline=within(SECONDS))) for _ in range(3)]
    assert sorted(heard) == [0, 1, 2]
    with pytest.raises(DeadlineExceeded, match="nobody called"):
        listener.accept(deadline=within(0.01))


def test_nobody_is_there_to_be_called(store: Faulty) -> None:
    with pytest.raises(DeadlineExceeded, match="nobody is to be called at relay/worker-0"):
        RelayCaller(store, NAME).connect(deadline=within(0.02))


def test_who_called_learns_of_a_new_life_and_what_the_old_one_left_is_gone(store: Faulty) -> None:
    there, _ = pair(store)
    there.send({"x": np.arange(3)}, deadline=within(SECONDS))
    RelayListener(store, NAME)
    with pytest.raises(SessionLost, match="begun a new life"):
        there.receive(deadline=within(SECONDS))
    with pytest.raises(SessionLost):
        there.send({"x": np.arange(3)}, deadline=within(SECONDS))
    assert [info.key for info in store.keys("relay/")] == [f"{NAME}/lives/000001"]


def test_a_write_that_was_done_and_not_heard_of_is_one_message(store: Faulty) -> None:
    there, back = pair(store)
    store.unheard = 1
    there.send({"x": np.array([1])}, deadline=within(SECONDS))
    there.send({"x": np.array([2])}, deadline=within(SECONDS))
    assert [number(back), number(back)] == [1, 2]


def test_a_write_of_which_nothing_is_heard_ends_the_session(store: Faulty) -> None:
    there, _ = pair(store)
    store.undone = 1000
    with pytest.raises(SessionLost, match="message 0 may have been stored or not"):
        there.send({"x": np.array([1])}, deadline=within(0.01))


def test_a_read_that_fails_is_tried_again(store: Faulty) -> None:
    there, back = pair(store)
    there.send({"x": np.array([7])}, deadline=within(SECONDS))
    store.unread = 3
    assert number(back) == 7


def test_bytes_that_are_no_message_are_refused(store: Faulty) -> None:
    there, back = pair(store)
    there.send({"x": np.arange(64)}, deadline=within(SECONDS))
    (message,) = [info.key for info in store.keys("relay/") if "/there/" in info.key]
    raw = bytearray(store.get(message, max_bytes=10_000))
    raw[-20] ^= 1
    store.delete(message)
    store.create(message, bytes(raw))
    with pytest.raises(InvalidFrame, match="not those that were sent"):
        back.receive(deadline=within(SECONDS))


def test_who_reads_the_end_leaves_nothing_of_the_session(store: Faulty) -> None:
    there, back = pair(store)
    back.send({"x": np.arange(3)}, deadline=within(SECONDS))
    there.close()
    with pytest.raises(ChannelClosed, match="the other side closed"):
        back.receive(deadline=within(SECONDS))
    assert [info.key for info in store.keys("relay/")] == [f"{NAME}/lives/000000"]


def test_a_folder_that_cannot_be_used_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    folder = SharedFolder(tmp_path / "file")
    for call in (lambda: folder.create("a/b", b""), lambda: folder.get("a", max_bytes=1)):
        with pytest.raises(Unavailable, match="Not a directory"):
            call()


def test_messages_that_were_taken_and_written_once_more_use_up_no_room(store: Faulty) -> None:
    """A write is done, read and deleted; its answer is lost, and the write comes again: nobody reads that number."""
    terms = RelayTerms(stale_seconds=0.05, window=Window(messages=4))
    listener = RelayListener(store, NAME, terms)
    calling = RelayCaller(store, NAME, terms).connect(deadline=within(SECONDS))
    answering = listener.accept(deadline=within(SECONDS))
    for each in range(24):
        before = {info.key for info in store.keys(NAME)}
        calling.send({"x": np.array([each])}, deadline=within(SECONDS))
        (written,) = {info.key for info in store.keys(NAME)} - before
        data = store.get(written, max_bytes=1 << 20)
        assert number(answering) == each
        if each % 3 == 0:
            assert store.create(written, data)
    calling.close()
    answering.close()
