"""Many questions at once: what becomes of one of them is nothing to the others."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from isthmus.errors import DeadlineExceeded, Unavailable
from isthmus.transport.inprocess import InProcessChannel, channel_pair
from isthmus.transport.pipelined import Label, Pipelined, labelled, unlabelled
from isthmus.transport.ports import Channel, Tensors, within

SECONDS = 10.0
ONE = {"x": np.ones(1, "float32")}


class Ways:
    """A transport that gives the channels it was made of, one after the other, or raises them."""

    def __init__(self, *channels: Any) -> None:
        self._channels = list(channels)

    def connect(self, *, deadline: float) -> Channel:
        found = self._channels.pop(0) if len(self._channels) > 1 else self._channels[0]
        if isinstance(found, Exception):
            raise found
        channel: Channel = found
        return channel


class Narrow:
    """A channel whose sending waits until ``free``; what one question of ``late`` is sent by is not taken in time."""

    def __init__(self, inner: InProcessChannel, *, late: int = -1) -> None:
        self.free, self.reached, self.waited_in_vain = threading.Event(), threading.Event(), False
        self.receive, self.close = inner.receive, inner.close
        self._inner, self._late = inner, late

    def send(self, tensors: Tensors, *, deadline: float) -> None:
        self.reached.set()
        self.waited_in_vain |= not self.free.wait(SECONDS)
        if unlabelled(dict(tensors))[0].number == self._late:
            raise DeadlineExceeded("this one is not taken")
        self._inner.send(tensors, deadline=deadline)


@pytest.fixture
def askers() -> Iterator[list[Pipelined]]:
    made: list[Pipelined] = []
    yield made
    for asker in made:
        asker.close()


def answer(channel: InProcessChannel) -> int:
    """Answer the next question; return its number."""
    label, tensors = unlabelled(channel.receive(deadline=within(SECONDS)))
    channel.send(labelled(tensors, Label(label.number)), deadline=within(SECONDS))
    return label.number


def test_a_question_that_was_given_up_is_no_others_end(askers: list[Pipelined]) -> None:
    ours, theirs = channel_pair()
    askers.append(asker := Pipelined(Ways(ours)))
    given_up = asker.ask(ONE, deadline=within(SECONDS))
    label, _ = unlabelled(theirs.receive(deadline=within(SECONDS)))
    assert given_up.cancel()
    theirs.send(labelled(ONE, Label(label.number)), deadline=within(SECONDS))
    following = asker.ask(ONE, deadline=within(SECONDS))
    answer(theirs)
    assert following.result(SECONDS).keys() == {"x"}


def test_what_nobody_foresaw_fails_what_was_asked_and_the_next_is_answered(askers: list[Pipelined]) -> None:
    ours, theirs = channel_pair()
    askers.append(asker := Pipelined(Ways(ArithmeticError("overflow"), ours), name="the tail"))
    with pytest.raises(Unavailable, match="asking the tail failed: ArithmeticError: overflow"):
        asker.ask(ONE, deadline=within(SECONDS)).result(SECONDS)
    following = asker.ask(ONE, deadline=within(SECONDS))
    answer(theirs)
    assert following.result(SECONDS).keys() == {"x"}


def test_one_that_cannot_be_sent_again_does_not_keep_those_after_it(askers: list[Pipelined]) -> None:
    first, gone = channel_pair()
    second, theirs = channel_pair()
    narrow = Narrow(second, late=0)
    narrow.free.set()
    askers.append(asker := Pipelined(Ways(first, narrow)))
    asked = [asker.ask(ONE, deadline=within(SECONDS)) for _ in range(3)]
    for _ in asked:
        gone.receive(deadline=within(SECONDS))
    gone.close()
    assert {answer(theirs), answer(theirs)} == {1, 2}
    with pytest.raises(DeadlineExceeded, match="this one is not taken"):
        asked[0].result(SECONDS)
    assert asked[1].result(SECONDS).keys() == asked[2].result(SECONDS).keys() == {"x"}


def test_a_deadline_holds_while_another_question_is_being_sent(askers: list[Pipelined]) -> None:
    ours, theirs = channel_pair()
    narrow = Narrow(ours)
    askers.append(asker := Pipelined(Ways(narrow)))
    slow = asker.ask(ONE, deadline=within(SECONDS))
    assert narrow.reached.wait(SECONDS)
    for _ in range(2):
        with pytest.raises(DeadlineExceeded):
            asker.ask(ONE, deadline=within(0.02)).result(SECONDS)
    assert not narrow.waited_in_vain
    narrow.free.set()
    assert answer(theirs) == 0
    assert slow.result(SECONDS).keys() == {"x"}
