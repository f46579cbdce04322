"""Many questions at once over one channel: each is answered once, or fails with what came in its way.

Each message carries a label: the question's number, the seconds that are left for its answer, or what went wrong.
So answers may come in any order, and one that comes late is nobody else's. A slice's answer depends on its question
alone: when the other side has started anew, what it had not answered is asked again.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from isthmus.errors import (
    ChannelClosed,
    DeadlineExceeded,
    InvalidAnswer,
    InvalidFrame,
    InvalidModel,
    InvalidRequest,
    IsthmusError,
    PayloadTooLarge,
    SessionLost,
    Unavailable,
)
from isthmus.transport.ports import Channel, Tensors, Transport, within

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = dict[str, NDArray[Any]]

LABEL = "isthmus:label"
"""The name of the array that holds a message's label."""
MOST_ASKED = 16
LOOK_SECONDS = 0.25
"""Between two looks at what has become too late."""
CONNECT_SECONDS = 1.0
PAUSE_SECONDS = 0.02
KINDS: dict[str, type[IsthmusError]] = {
    kind.__name__: kind
    for kind in (PayloadTooLarge, InvalidRequest, InvalidModel, DeadlineExceeded, Unavailable)
}
"""What the other side may say that it failed of; anything else is an InvalidAnswer here."""
LOST = (SessionLost, ChannelClosed, InvalidFrame)
"""After these a new channel helps."""


class Label(msgspec.Struct, frozen=True, array_like=True):
    """``seconds``: left for the answer; ``error``: the kind of what went wrong, in an answer."""

    number: Annotated[int, msgspec.Meta(ge=0, le=2**62)]
    seconds: float = 0.0
    error: str = ""
    sentence: Annotated[str, msgspec.Meta(max_length=2000)] = ""


def labelled(tensors: Tensors, label: Label) -> Arrays:
    """Return a message that carries its label."""
    import numpy as np

    return {LABEL: np.frombuffer(msgspec.msgpack.encode(label), np.uint8), **tensors}


def unlabelled(message: Arrays) -> tuple[Label, Arrays]:
    """Return a message's label, and the rest of it.

    Raises:
        InvalidFrame: it has none.
    """
    try:
        label = msgspec.msgpack.decode(message.pop(LABEL).tobytes(), type=Label)
    except (KeyError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidFrame("a message between slices has no label: the other side is no slice") from error
    return label, message


def failure(number: int, error: IsthmusError) -> Arrays:
    """Return the answer that says what went wrong."""
    kind = next((name for name, kind in KINDS.items() if isinstance(error, kind)), "")
    return labelled({}, Label(number, error=kind or type(error).__name__, sentence=str(error)[:2000]))


def _unforeseen(name: str, error: Exception) -> Unavailable:
    return Unavailable(f"asking {name} failed: {type(error).__name__}: {error}")


@dataclass(eq=False)
class _Asked:
    """A question; ``channel``: the last one that it was sent over."""

    number: int
    tensors: Tensors
    deadline: float
    answer: Future[Arrays] = field(default_factory=Future)
    channel: Channel | None = None


class Pipelined:
    """Asks over one channel at a time, and makes a new one when it is lost. Safe to share between threads.

    ``most``: questions that wait for their answers; ``name``: of who is asked, for sentences.
    """

    def __init__(self, transport: Transport, *, most: int = MOST_ASKED, name: str = "the other side") -> None:
        self._transport = transport
        self._name = name
        self._room = threading.BoundedSemaphore(most)
        self._changed = threading.Condition()
        self._sending = threading.Lock()
        self._asked: dict[int, _Asked] = {}
        self._following = 0
        self._channel: Channel | None = None
        self._last = "nobody was reached"
        self._closed = False
        self._keeper = threading.Thread(target=self._keep, daemon=True, name="isthmus-pipelined")
        self._keeper.start()

    def ask(self, tensors: Tensors, *, deadline: float) -> Future[Arrays]:
        """Return the answer to come. Waits while too many are asked, or the other side does not take more, until
        ``deadline`` at most. ``tensors`` must not be written to until the answer is there.

        The future raises:
            DeadlineExceeded: no answer came in time.
            InvalidRequest, InvalidModel, Unavailable: what the other side says is wrong.
            IsthmusError: as ``Channel`` and ``Transport`` say.
        """
        asked = _Asked(0, tensors, deadline)
        if not self._room.acquire(timeout=max(0.0, deadline - time.monotonic())):
            asked.answer.set_exception(DeadlineExceeded("earlier questions took all of the time"))
            return asked.answer
        with self._changed:
            if self._closed:
                self._room.release()
                asked.answer.set_exception(ChannelClosed("this side closed the channel"))
                return asked.answer
            asked.number, self._following = self._following, self._following + 1
            self._asked[asked.number] = asked
            self._changed.notify_all()
        with suppress(*LOST):  # the keeper meets the same, and asks again
            self._try(asked)
        return asked.answer

    def close(self) -> None:
        """End the channel; what was asked and not answered fails."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._drop()
        self._fail(ChannelClosed("this side closed the channel"))
        if threading.current_thread() is not self._keeper:
            self._keeper.join(CONNECT_SECONDS + LOOK_SECONDS)

    def _keep(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._asked)
                if self._closed:
                    break
            try:
                self._take(self._connected().receive(deadline=self._soon(LOOK_SECONDS)))
            except DeadlineExceeded as error:
                if self._channel is None:
                    self._last = str(error)
            except LOST as error:
                self._last = str(error)
                self._drop()
                self._pause()
            except IsthmusError as error:
                self._drop()
                self._fail(error)
            except Exception as error:
                # Without this thread no question would ever end.
                self._drop()
                self._fail(_unforeseen(self._name, error))
                self._pause()
            self._expire()
        self._drop()  # it may have been made while this side closed

    def _pause(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed, PAUSE_SECONDS)

    def _connected(self) -> Channel:
        channel = self._channel
        if channel is None:
            channel = self._channel = self._transport.connect(deadline=self._soon(CONNECT_SECONDS))
            # Beside the keeper, which has to see to the other questions' time while one is being sent.
            threading.Thread(target=self._send_all, daemon=True, name="isthmus-pipelined-again").start()
        return channel

    def _send_all(self) -> None:
        """Send what was asked before there was a channel; what one question fails of is no other's."""
        with self._changed:
            waiting = list(self._asked.values())
        with suppress(*LOST):
            for asked in waiting:
                self._try(asked)

    def _try(self, asked: _Asked) -> None:
        """Send a question, and settle it if that fails. Raises what is ``LOST``."""
        if not self._sending.acquire(timeout=max(0.0, asked.deadline - time.monotonic())):
            self._settle(asked.number, DeadlineExceeded("earlier questions took all of the time"))
            return
        try:
            self._send(asked)
        except LOST:
            raise
        except IsthmusError as error:
            self._settle(asked.number, error)
        except Exception as error:
            self._settle(asked.number, _unforeseen(self._name, error))
        finally:
            self._sending.release()

    def _send(self, asked: _Asked) -> None:
        """Send a question over the channel that there is, unless it was; the lock for sending is held."""
        channel = self._channel
        if channel is None or asked.channel is channel or asked.answer.done():
            return
        asked.channel = channel
        label = Label(asked.number, asked.deadline - time.monotonic())
        channel.send(labelled(asked.tensors, label), deadline=asked.deadline)

    def _take(self, message: Arrays) -> None:
        label, tensors = unlabelled(message)
        if label.error:
            kind = KINDS.get(label.error, InvalidAnswer)
            self._settle(label.number, kind(label.sentence))
        else:
            self._settle(label.number, tensors)

    def _settle(self, number: int, outcome: Arrays | IsthmusError) -> None:
        with self._changed:
            asked = self._asked.pop(number, None)
        if asked is None:
            return  # it was answered, or given up
        self._room.release()
        if not asked.answer.set_running_or_notify_cancel():
            return  # who asked does not want it any more
        if isinstance(outcome, IsthmusError):
            asked.answer.set_exception(outcome)
        else:
            asked.answer.set_result(outcome)

    def _soon(self, seconds: float) -> float:
        with self._changed:
            return min([within(seconds), *(asked.deadline for asked in self._asked.values())])

    def _expire(self) -> None:
        now = time.monotonic()
        with self._changed:
            late = [
                asked.number
                for asked in self._asked.values()
                if asked.deadline <= now or asked.answer.cancelled()
            ]
        for number in late:
            why = f"; {self._last}" if self._channel is None else ""
            self._settle(number, DeadlineExceeded(f"{self._name} did not answer in time{why}"))

    def _fail(self, error: IsthmusError) -> None:
        with self._changed:
            numbers = list(self._asked)
        for number in numbers:
            self._settle(number, error)

    def _drop(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            with suppress(IsthmusError, OSError):
                channel.close()
