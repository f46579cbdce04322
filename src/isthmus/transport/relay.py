"""A relay through a bucket, for when neither side may listen: each message is an object, written once.

::

    NAME/open/SESSION                   a session of whoever asks: the last by name is the one that counts
    NAME/SESSION/ask/000000000000       messages of the side that asks
    NAME/SESSION/answer/000000000000    messages of the side that answers

Writes are conditional (``If-None-Match: *``), so a repeated one changes nothing. An answer has the number of what
it answers, and a question is deleted after its answer was written: if the answering process dies, the next
one finds the question, answers it again, and the second answer is not written. Whoever reads a message deletes it;
what a dead session leaves is deleted by whoever opens the next of that name.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

from isthmus.errors import (
    ChannelClosed,
    DeadlineExceeded,
    InvalidFrame,
    InvalidInput,
    LimitExceeded,
    MissingFile,
    PayloadTooLarge,
    SessionLost,
    Unavailable,
)
from isthmus.model.sliced import Cast
from isthmus.model.units import KIB, format_bytes
from isthmus.ports import BlobStore
from isthmus.transport.casts import pack
from isthmus.transport.frames import BYE, DATA, checksums
from isthmus.transport.objects import message_of, read_object, write_object
from isthmus.transport.pace import Pace
from isthmus.transport.ports import MAX_MESSAGE_BYTES, Tensors
from isthmus.transport.session import Window

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from isthmus.transport.frames import Frame

LOOKS = 8
"""Requests for a message that may be under way at once."""
MARGIN_BYTES = 128 * KIB
"""Of an object beside its payload."""
STALE_SECONDS = 4.0
"""Of waiting in vain, from which on the answering side asks with each look whether there is a newer session."""
Side = Literal["ask", "answer"]
OTHER: dict[Side, Side] = {"ask": "answer", "answer": "ask"}


class RelayTransport:
    """One side of a relay. ``side``: "ask" opens a session; "answer" takes up whichever there is."""

    def __init__(
        self,
        store: BlobStore,
        name: str,
        side: Side,
        *,
        cast: Cast = "",
        max_bytes: int = MAX_MESSAGE_BYTES,
        window: Window | None = None,
    ) -> None:
        checksums()
        self._store = store
        self._name = name
        self._side: Side = side
        self._cast: Cast = cast
        self._max_bytes = max_bytes
        self._window = window or Window()

    def connect(self, *, deadline: float) -> RelayChannel:
        return RelayChannel(
            self._store, self._name, self._side, self._cast, self._max_bytes, self._window, deadline
        )


class RelayChannel:
    """One end. The side that answers may answer each message once, or not at all, before it takes the next."""

    def __init__(
        self,
        store: BlobStore,
        name: str,
        side: Side,
        cast: Cast,
        max_bytes: int,
        window: Window,
        deadline: float,
    ) -> None:
        self._store = store
        self._name = name
        self._side: Side = side
        self._cast: Cast = cast
        self._max_bytes = max_bytes
        self._window = window
        self._pace = Pace()
        self._looks = ThreadPoolExecutor(2 * LOOKS, thread_name_prefix="isthmus-relay")
        self._sweeper = ThreadPoolExecutor(1, thread_name_prefix="isthmus-relay-sweeper")
        self._closed = ""
        self._doubt = ""
        self._sent = 0
        self._due: int | None = 0 if side == "ask" else None
        self._taken: int | None = None
        self._unswept: str | None = None
        self._session = self._open(deadline)

    def send(self, tensors: Tensors, *, deadline: float) -> None:
        self._check()
        packed = pack(tensors, self._cast)
        if packed.size_bytes > self._max_bytes:
            size, most = format_bytes(packed.size_bytes), format_bytes(self._max_bytes)
            raise PayloadTooLarge(f"a message is {size}; at most {most} is sent: send smaller batches")
        number = self._number()
        if self._side == "ask":
            self._await_room(number, deadline)
        self._write(number, write_object(DATA, number, packed))
        self._sent = number + 1
        self._sweep()

    def receive(self, *, deadline: float) -> dict[str, NDArray[Any]]:
        self._check()
        self._sweep()
        frame = self._await_message(deadline)
        self._due, self._taken = frame.sequence + 1, frame.sequence
        self._unswept = self._key(OTHER[self._side], frame.sequence)
        if frame.kind == BYE:
            self._closed = "the other side closed the channel"
            self._unswept = None
            self._sweeper.shutdown()
            self._clear(self._session)
            self._check()
        if self._side == "ask":
            self._sweep()
        return message_of(frame)

    def close(self) -> None:
        if not self._closed:
            self._closed = "this side closed the channel"
            for number in (self._sent, self._sent + 1):  # a message in doubt may have the first of them
                if self._store.create(self._key(self._side, number), write_object(BYE, number, None)):
                    break
        self._sweep()
        self._looks.shutdown(cancel_futures=True)
        self._sweeper.shutdown()

    def _write(self, number: int, data: bytes) -> None:
        """Write a message. A question that may be there or not leaves its number in doubt: an answer of that number
        could be one to it, and not to the next. A second answer to the same question changes nothing."""
        key = self._key(self._side, number)
        try:
            written = self._store.create(key, data)
        except Exception as error:
            if self._side == "ask":
                self._doubt = f"question {number} may have been stored or not: {error}"
            raise
        if not written and self._side == "ask":
            with suppress(MissingFile):  # it was taken: the store tried twice, and the first time was enough
                if self._store.get(key, max_bytes=self._max_bytes + MARGIN_BYTES) != data:
                    self._doubt = f"there is another question {number} already"
                    self._check()

    def _check(self) -> None:
        if self._closed:
            raise ChannelClosed(self._closed)
        if self._doubt:
            raise SessionLost(f"the session at {self._name} has to begin anew: {self._doubt}")

    def _key(self, side: Side, number: int) -> str:
        return f"{self._name}/{self._session}/{side}/{number:012d}"

    def _number(self) -> int:
        """Return the number of the next message: an answer has that of what it answers."""
        if self._side == "ask":
            return self._sent
        if self._taken is None or self._sent > self._taken:
            raise InvalidInput(
                "the side of a relay that answers sends one message for each that it has received"
            )
        return self._taken

    def _open(self, deadline: float) -> str:
        """Start a session, or find the one to answer."""
        if self._side == "ask":
            older = self._sessions()
            session = f"{time.time_ns():020d}-{secrets.token_hex(8)}"
            self._store.create(f"{self._name}/open/{session}", b"")
            for each in older:
                self._clear(each)
            return session
        started = time.monotonic()
        while not (found := self._sessions()):
            spacing = self._pace.spacing(time.monotonic() - started)
            if time.monotonic() + spacing > deadline:
                raise DeadlineExceeded(f"nobody asks at {self._name}")
            time.sleep(spacing)
        return found[-1]

    def _sessions(self) -> list[str]:
        prefix = f"{self._name}/open/"
        return sorted(info.key.removeprefix(prefix) for info in self._store.keys(prefix))

    def _clear(self, session: str) -> None:
        """Delete a session; its mark last, so that what is cut off is done by the next who opens."""
        for info in list(self._store.keys(f"{self._name}/{session}/")):
            self._store.delete(info.key)
        self._store.delete(f"{self._name}/open/{session}")

    def _sweep(self) -> None:
        """Have the message that was dealt with deleted, beside what comes next."""
        if self._unswept is not None:
            self._sweeper.submit(self._store.delete, self._unswept)
            self._unswept = None

    def _await_room(self, number: int, deadline: float) -> None:
        """Wait until the message a window ago was taken: answered, or gone."""
        oldest = number - self._window.messages
        started = time.monotonic()
        while oldest >= (self._due or 0) and self._store.info(self._key("ask", oldest)) is not None:
            spacing = self._pace.spacing(time.monotonic() - started)
            if time.monotonic() + spacing > deadline:
                raise DeadlineExceeded(
                    f"the other side has not taken {self._window.messages} messages that were sent before"
                )
            time.sleep(spacing)

    def _await_message(self, deadline: float) -> Frame:
        """Look for the next message as the pace says, several looks at once if they take longer than that."""
        started, due, trouble = time.monotonic(), 0.0, None
        pending: dict[Future[Frame | None], float] = {}
        while True:
            waited = time.monotonic() - started
            if waited >= due and len(pending) < LOOKS:
                if self._side == "answer" and waited >= STALE_SECONDS and not pending:
                    self._follow()
                pending[self._looks.submit(self._look, self._session, self._due)] = waited
                due = waited + self._pace.spacing(waited)
            until = deadline - started if len(pending) >= LOOKS else min(due, deadline - started)
            for each in _finished(pending, max(0.0, until - (time.monotonic() - started))):
                left_after = pending.pop(each)
                try:
                    frame: Frame | None = each.result()
                except Unavailable as error:
                    if isinstance(error, InvalidFrame):
                        raise
                    frame, trouble = None, error
                if frame is not None:
                    self._pace.found(left_after)
                    return frame
            if time.monotonic() > deadline:
                raise DeadlineExceeded(f"no message came at {self._name} in time") from trouble

    def _look(self, session: str, number: int | None) -> Frame | None:
        """Look for a message; without a number for the first question that is there, whose number is not known.

        It changes nothing here: a look may end after another has found the message.
        """
        if number is None:
            number = self._first(session)
        if number is None:
            return None
        key = f"{self._name}/{session}/{OTHER[self._side]}/{number:012d}"
        try:
            data = self._store.get(key, max_bytes=self._max_bytes + MARGIN_BYTES)
        except MissingFile:
            return None
        except LimitExceeded as error:
            raise PayloadTooLarge(f"a message is too large to be taken: {error}") from error
        return read_object(data, number)

    def _first(self, session: str) -> int | None:
        """Return the number of the first question that was not answered: another process may have answered some."""
        first = next(iter(self._store.keys(f"{self._name}/{session}/ask/")), None)
        return None if first is None else int(first.key.rpartition("/")[2])

    def _follow(self) -> None:
        """Take up a newer session, if there is one: who asked has started anew."""
        sessions = self._sessions()
        if sessions and sessions[-1] != self._session:
            older, self._session, self._due = self._session, sessions[-1], None
            self._taken, self._sent, self._unswept = None, 0, None
            self._clear(older)


def _finished(pending: Iterable[Future[Any]], seconds: float) -> set[Future[Any]]:
    """Return which are done, after ``seconds`` at most."""
    waiting = list(pending)
    if not waiting:
        time.sleep(seconds)
    return wait(waiting, timeout=seconds, return_when=FIRST_COMPLETED).done
