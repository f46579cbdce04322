"""A question of which nobody knows whether it was stored is not mistaken for the next one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from isthmus.adapters.local.blobs import DirectoryBlobStore
from isthmus.errors import ChannelClosed, SessionLost, Unavailable
from isthmus.transport.ports import within
from isthmus.transport.relay import RelayTransport


class Breaking(DirectoryBlobStore):
    """Stores the first question, and the answer that says so is lost; or is asked twice for what it has stored."""

    def __init__(self, folder: Path, *, tries_again: bool = False) -> None:
        super().__init__(folder)
        self._broken, self._tries_again = False, tries_again

    def create(self, key: str, data: bytes) -> bool:
        written = super().create(key, data)
        if "/ask/" in key and not self._broken:
            self._broken = True
            if not self._tries_again:
                raise Unavailable("the answer to the request was lost")
            written = super().create(key, data)
        return written


def number(value: float) -> dict[str, np.ndarray]:
    return {"x": np.array([value])}


def test_a_session_with_a_question_in_doubt_begins_anew(tmp_path: Path) -> None:
    store = DirectoryBlobStore(tmp_path)
    asks = RelayTransport(Breaking(tmp_path), "cut", "ask").connect(deadline=within(20))
    answers = RelayTransport(store, "cut", "answer").connect(deadline=within(20))
    with pytest.raises(Unavailable):
        asks.send(number(1), deadline=within(20))
    with pytest.raises(SessionLost, match="question 0 may have been stored or not"):
        asks.send(number(2), deadline=within(20))
    with pytest.raises(SessionLost, match="has to begin anew"):
        asks.receive(deadline=within(20))
    asks.close()
    assert answers.receive(deadline=within(20))["x"] == 1
    with pytest.raises(ChannelClosed):
        answers.receive(deadline=within(20))


def test_another_question_of_that_number_is_seen(tmp_path: Path) -> None:
    store = DirectoryBlobStore(tmp_path)
    asks = RelayTransport(store, "cut", "ask").connect(deadline=within(20))
    (opened,) = store.keys("cut/open/")
    store.create(f"cut/{opened.key.rpartition('/')[2]}/ask/{0:012d}", b"another")
    with pytest.raises(SessionLost, match="there is another question 0 already"):
        asks.send(number(1), deadline=within(20))
    asks.close()


def test_a_store_that_tried_twice_has_stored_it(tmp_path: Path) -> None:
    asks = RelayTransport(Breaking(tmp_path, tries_again=True), "cut", "ask").connect(deadline=within(20))
    answers = RelayTransport(DirectoryBlobStore(tmp_path), "cut", "answer").connect(deadline=within(20))
    for value in (1, 2):
        asks.send(number(value), deadline=within(20))
        found = answers.receive(deadline=within(20))
        answers.send(found, deadline=within(20))
        assert asks.receive(deadline=within(20))["x"] == value
    asks.close()
    answers.close()
