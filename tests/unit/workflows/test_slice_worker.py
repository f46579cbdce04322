"""A slice that serves many: one that does not take its answers is nobody else's trouble."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from isthmus.transport.direct import DirectListener, DirectTransport
from isthmus.transport.inprocess import InProcessChannel, channel_pair
from isthmus.transport.pipelined import Label, Pipelined, labelled, unlabelled
from isthmus.transport.ports import within
from isthmus.transport.session import Window
from isthmus.workflows.serve_slice import Chained, SliceWork
from isthmus.workflows.slice_worker import MOST_UNDER_WAY, SliceWorker

SECONDS = 10.0
ONE = {"x": np.ones(1, "float32")}


class Passing:
    """An engine that returns what it is given, under the next name."""

    def __init__(self, name: str) -> None:
        self._name = name

    def run(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return {self._name: next(iter(inputs.values()))}


class Ends:
    """A listener of channels within this process."""

    def __init__(self, channels: list[InProcessChannel]) -> None:
        self._channels = channels
        self._never = threading.Event()

    def accept(self, *, deadline: float) -> InProcessChannel:
        from isthmus.errors import DeadlineExceeded

        if self._channels:
            return self._channels.pop(0)
        self._never.wait(0.05)
        raise DeadlineExceeded("nobody")

    def close(self) -> None: ...


def test_who_does_not_take_its_answers_keeps_nobody_else_from_theirs() -> None:
    tail = SliceWork(1, 2, "tail", Passing("z"), ("y",), (), ("z",))  # type: ignore[arg-type]
    head = SliceWork(0, 2, "head", Passing("y"), ("x",), ("y",), ())  # type: ignore[arg-type]
    listener = DirectListener(("127.0.0.1", 0), tls=None)
    last = SliceWorker(Chained(tail), listener)
    deaf, deaf_end = channel_pair(window=Window(1, 1))
    good, good_end = channel_pair()
    following = Pipelined(DirectTransport(listener.address, tls=None))
    first = SliceWorker(Chained(head, following), Ends([deaf_end, good_end]))
    threads = [threading.Thread(target=worker.serve) for worker in (last, first)]
    for thread in threads:
        thread.start()
    for number in range(3):
        deaf.send(labelled(ONE, Label(number, 1e9)), deadline=within(SECONDS))
    for number in range(MOST_UNDER_WAY + 1):
        good.send(labelled(ONE, Label(number, SECONDS)), deadline=within(SECONDS))
        label, answer = unlabelled(good.receive(deadline=within(SECONDS)))
        assert (label.number, label.error, answer.keys()) == (number, "", {"z"})
    for channel in (deaf, good):
        channel.close()
    for worker in (first, last):
        worker.end()
    for thread in threads:
        thread.join(SECONDS)
    assert not any(thread.is_alive() for thread in threads)
