"""A worker that computes parts of scripts' networks: one thread for each script, one computation at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from isthmus.errors import ChannelClosed, DeadlineExceeded, InvalidFrame, InvalidInput, IsthmusError
from isthmus.frameworks.parts import KeptCalls, Opening, open_part
from isthmus.transport.ports import Channel, Listener, within
from isthmus.workflows.part_notes import (
    NETWORK,
    Answer,
    Backward,
    Failure,
    Forward,
    Open,
    message,
    read,
    uneven,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = dict[str, NDArray[Any]]

LOOK_SECONDS = 0.25
"""Between two looks at whether to go on."""
ANSWER_SECONDS = 600.0
"""What an answer may take on its way."""


@dataclass
class PartWorker:
    """Answers on every channel that comes in, until ``end``."""

    listener: Listener
    say: Callable[[str], None] = lambda line: None
    open: Callable[[Opening], Any] = open_part
    _ending: threading.Event = field(default_factory=threading.Event, repr=False)
    _computing: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def serve(self) -> None:
        """Serve until ``end`` is called."""
        try:
            while not self._ending.is_set():
                try:
                    channel = self.listener.accept(deadline=within(LOOK_SECONDS))
                except DeadlineExceeded:
                    continue
                threading.Thread(
                    target=self._attend, args=(channel,), daemon=True, name="isthmus-part"
                ).start()
        finally:
            self._ending.set()
            self.listener.close()

    def end(self) -> None:
        """Ask ``serve`` to end. May be called by a signal's handler."""
        self._ending.set()

    def _attend(self, channel: Channel) -> None:
        # What was opened over a channel ends with it.
        parts: dict[str, KeptCalls] = {}
        try:
            while not self._ending.is_set():
                try:
                    received = channel.receive(deadline=within(LOOK_SECONDS))
                except DeadlineExceeded:
                    continue
                channel.send(self._answered(parts, received), deadline=within(ANSWER_SECONDS))
        except ChannelClosed:
            pass
        except IsthmusError as error:
            self.say(f"a channel ended: {error}")
        finally:
            with suppress(IsthmusError, OSError):
                channel.close()

    def _answered(self, parts: dict[str, KeptCalls], received: Arrays) -> Arrays:
        note, arrays = read(received)
        if not isinstance(note, Open | Forward | Backward):
            raise InvalidFrame(f"a script said {type(note).__name__}, which is no question")
        try:
            with self._computing:
                began = time.perf_counter()
                found = self._computed(parts, note, arrays)
                return message(Answer(time.perf_counter() - began, uneven(found)), found)
        except IsthmusError as error:
            return message(Failure(str(error)[:4000]))
        except Exception as error:  # frameworks' errors have no common base, and the script waits for a word
            return message(Failure(f"{type(error).__name__}: {error}"[:4000]))

    def _computed(
        self, parts: dict[str, KeptCalls], note: Open | Forward | Backward, arrays: Arrays
    ) -> Arrays:
        if isinstance(note, Open):
            opening = Opening(note.framework, arrays[NETWORK].tobytes(), note.described)
            parts[note.part] = KeptCalls(self.open(opening))
            self.say(f"opened a part of {len(opening.network)} bytes")
            return {}
        if note.part not in parts:
            raise InvalidInput("a part was asked that was not opened; connect again")
        part = parts[note.part]
        if isinstance(note, Forward):
            return part.forward(note.call, arrays, kept=note.kept, training=note.training, wanted=note.wanted)
        return part.backward(note.call, arrays)
