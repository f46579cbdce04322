"""A place where parts of a script's network are computed, reached by a channel."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress

from isthmus.errors import ChannelClosed, InvalidFrame, InvalidInput, IsthmusError, SessionLost
from isthmus.frameworks.parts import Answered, Opening, Pending
from isthmus.frameworks.trainable import Arrays
from isthmus.transport.ports import Channel, Transport, within
from isthmus.workflows.part_notes import (
    NETWORK,
    Answer,
    Backward,
    Failure,
    Forward,
    Note,
    Open,
    message,
    read,
    uneven,
)


class AskedPlace:
    """One question at a time; who asks holds the place until the answer is collected."""

    def __init__(self, name: str, transport: Transport, patience_seconds: float) -> None:
        self.name = name
        self.meeting = 0
        self._transport = transport
        self._seconds = patience_seconds
        self._channel: Channel | None = None
        self._asking = threading.Lock()

    def connect(self) -> None:
        """Raises Unavailable: nobody is there."""
        if self._channel is None:
            self._channel = self._transport.connect(deadline=within(self._seconds))
            self.meeting += 1

    def open(self, part: str, opening: Opening) -> None:
        """As ``parts.Place``."""
        import numpy as np

        network = {NETWORK: np.frombuffer(opening.network, np.uint8)}
        self._ask(Open(part, opening.framework, dict(opening.described)), network)()

    def forward(
        self, part: str, call: int, arrays: Arrays, *, kept: bool, training: bool, wanted: Sequence[str]
    ) -> Pending:
        """As ``parts.Place``."""
        return self._ask(Forward(part, call, kept, training, tuple(wanted), uneven(arrays)), arrays)

    def backward(self, part: str, call: int, gradients: Arrays) -> Pending:
        """As ``parts.Place``."""
        if self._channel is None:
            raise SessionLost(
                f"the worker at {self.name} was lost since the forward pass; begin the step again"
            )
        return self._ask(Backward(part, call, uneven(gradients)), gradients)

    def close(self) -> None:
        """End the channel."""
        channel, self._channel = self._channel, None
        if channel is not None:
            with suppress(IsthmusError, OSError):
                channel.close()

    def _ask(self, note: Note, arrays: Arrays) -> Pending:
        self._asking.acquire()
        try:
            self._current().send(message(note, arrays), deadline=within(self._seconds))
        except BaseException:
            self._lost()
            raise
        return self._collect

    def _collect(self) -> Answered:
        try:
            note, found = read(self._current().receive(deadline=within(self._seconds)))
        except BaseException:
            self._lost()
            raise
        self._asking.release()
        if isinstance(note, Failure):
            raise InvalidInput(f"the worker at {self.name} says: {note.message}")
        if not isinstance(note, Answer):
            raise InvalidFrame(f"{self.name} said {type(note).__name__} where an answer was due")
        return Answered(found, note.seconds)

    def _current(self) -> Channel:
        if self._channel is None:
            raise ChannelClosed(f"the channel to {self.name} is closed")
        return self._channel

    def _lost(self) -> None:
        """End the channel: what would come over it belongs to a question that nobody waits for."""
        self.close()
        self._asking.release()
