"""Questions and answers over channels: an answer for each question, whatever becomes of the other side.

A slice's answer depends on its question alone, so a question may be asked again when the side that had it is
lost; a channel by itself delivers each message once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from isthmus.errors import ChannelClosed, DeadlineExceeded, IsthmusError, SessionLost
from isthmus.transport.ports import Channel, Listener, Tensors, Transport, within

if TYPE_CHECKING:
    from numpy.typing import NDArray

Answer = Callable[[dict[str, "NDArray[Any]"]], Tensors]
PATIENCE_SECONDS = 0.5
"""Between two looks of an answering side at whether it shall go on."""
PAUSE_SECONDS = 0.01
SEND_SECONDS = 60.0
"""What an answer may wait for the other side to have room for it."""


class Asker:
    """Asks over one channel at a time, one question after the other; makes a new channel when one is lost."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._channel: Channel | None = None
        self._lock = threading.Lock()

    def ask(self, tensors: Tensors, *, deadline: float) -> dict[str, NDArray[Any]]:
        """Return the answer to a question.

        Raises:
            DeadlineExceeded: none came in time.
            IsthmusError: as ``Channel`` says; SessionLost and ChannelClosed only if they last until the deadline.
        """
        if not self._lock.acquire(timeout=max(0, deadline - time.monotonic())):
            raise DeadlineExceeded("earlier questions took all of the time")
        try:
            return self._ask(tensors, deadline)
        finally:
            self._lock.release()

    def close(self) -> None:
        """End the channel, if there is one."""
        channel, self._channel = self._channel, None
        if channel is not None:
            with suppress(IsthmusError):
                channel.close()

    def _ask(self, tensors: Tensors, deadline: float) -> dict[str, NDArray[Any]]:
        while True:
            try:
                channel = self._channel = self._channel or self._transport.connect(deadline=deadline)
                channel.send(tensors, deadline=deadline)
                return channel.receive(deadline=deadline)
            except (SessionLost, ChannelClosed):
                self.close()
                if time.monotonic() + PAUSE_SECONDS > deadline:
                    raise
                time.sleep(PAUSE_SECONDS)
            except IsthmusError:
                # An answer that comes late must not pass for that of the next question.
                self.close()
                raise


def serve(channel: Channel, answer: Answer, *, go_on: Callable[[], bool] = lambda: True) -> None:
    """Answer each message of a channel until the other side ends it, or ``go_on`` says no.

    Raises:
        IsthmusError: what ended the channel otherwise, and what ``answer`` raises; the channel is closed then.
    """
    try:
        while go_on():
            try:
                question = channel.receive(deadline=within(PATIENCE_SECONDS))
            except DeadlineExceeded:
                continue
            channel.send(answer(question), deadline=within(SEND_SECONDS))
    except ChannelClosed:
        return
    finally:
        channel.close()


def serve_each(listener: Listener, answer: Answer, *, go_on: Callable[[], bool] = lambda: True) -> None:
    """Answer every channel that comes in, each in a thread of its own, until ``go_on`` says no.

    A channel that ends badly, or for which ``answer`` raises, is closed; the others go on.
    """

    def run(channel: Channel) -> None:
        with suppress(SessionLost):
            serve(channel, answer, go_on=go_on)

    while go_on():
        with suppress(DeadlineExceeded):
            channel = listener.accept(deadline=within(PATIENCE_SECONDS))
            threading.Thread(target=run, args=(channel,), daemon=True, name="isthmus-answering").start()
