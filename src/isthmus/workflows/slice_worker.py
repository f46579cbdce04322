"""A slice as a worker: it answers on every channel that comes in, until it is asked to end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from isthmus.errors import ChannelClosed, DeadlineExceeded, InvalidModel, IsthmusError
from isthmus.transport.pipelined import Label, failure, labelled, unlabelled
from isthmus.transport.ports import Channel, Listener, within
from isthmus.workflows.serve_slice import Chained

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = dict[str, NDArray[Any]]

LOOK_SECONDS = 0.25
"""Between two looks at whether to go on."""
IDLE_SECONDS = 600.0
"""A channel over which nothing comes for so long is ended; who asks again makes a new one."""
END_SECONDS = 10.0
"""What the end waits for questions that are under way."""
LONGEST_SECONDS = 600.0
"""What a question may leave for its answer at most, whatever its label says."""
MOST_UNDER_WAY = 64
"""Questions of one channel that are not answered; no more are taken meanwhile."""

Say = Callable[[str], None]


@dataclass
class SliceWorker:
    """Answers on every channel that comes in."""

    chained: Chained
    listener: Listener
    say: Say = lambda line: None
    answered: int = 0
    failed: int = 0
    _ending: threading.Event = field(default_factory=threading.Event, repr=False)
    _attending: list[threading.Thread] = field(default_factory=list, repr=False)
    _counting: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def serve(self) -> None:
        """Serve until ``end`` is called; then answer what was taken, and close everything."""
        try:
            while not self._ending.is_set():
                try:
                    channel = self.listener.accept(deadline=within(LOOK_SECONDS))
                except DeadlineExceeded:
                    continue
                self._attending = [thread for thread in self._attending if thread.is_alive()]
                thread = threading.Thread(
                    target=self._attend, args=(channel,), daemon=True, name="isthmus-slice"
                )
                self._attending.append(thread)
                thread.start()
        finally:
            self._ending.set()
            for thread in self._attending:
                thread.join(END_SECONDS)
            self.listener.close()
            if self.chained.following is not None:
                self.chained.following.close()

    def end(self) -> None:
        """Ask ``serve`` to end. May be called by a signal's handler."""
        self._ending.set()

    def _attend(self, channel: Channel) -> None:
        caller = _Caller(self, channel)
        try:
            caller.serve(self._ending)
        except ChannelClosed:
            pass
        except IsthmusError as error:
            self.say(f"a channel ended: {error}")
        finally:
            caller.finish()
            with suppress(IsthmusError, OSError):
                channel.close()

    def count(self, *, failed: bool) -> None:
        """Count an answer."""
        with self._counting:
            self.answered += 1
            self.failed += failed


class _Caller:
    """One channel that questions come over.

    Answers that the next slice brings go out by a thread of this channel's own: who brings them brings those of
    every channel, and must not wait for one that does not take its own.
    """

    def __init__(self, worker: SliceWorker, channel: Channel) -> None:
        self._worker = worker
        self._channel = channel
        self._sender = ThreadPoolExecutor(1, thread_name_prefix="isthmus-slice-answers")
        self._sending = threading.Lock()
        self._changed = threading.Condition()
        self._under_way = 0
        self._attending = threading.get_ident()

    def serve(self, ending: threading.Event) -> None:
        """Answer questions until the other side ends the channel, is silent for long, or ``ending``.

        Raises:
            IsthmusError: what ended the channel.
        """
        silent_until = within(IDLE_SECONDS)
        while not ending.is_set() and time.monotonic() < silent_until:
            if not self._has_room():
                continue
            try:
                message = self._channel.receive(deadline=within(LOOK_SECONDS))
            except DeadlineExceeded:
                continue
            silent_until = within(IDLE_SECONDS)
            label, tensors = unlabelled(message)
            with self._changed:
                self._under_way += 1
            # In this order a number that is none counts as 0.
            self._answer(label.number, within(min(LONGEST_SECONDS, max(0.0, label.seconds))), tensors)

    def _has_room(self) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self._under_way < MOST_UNDER_WAY, LOOK_SECONDS)

    def finish(self) -> None:
        """Wait until what was taken is answered."""
        with self._changed:
            self._changed.wait_for(lambda: self._under_way == 0, END_SECONDS)
        self._sender.shutdown(wait=False, cancel_futures=True)

    def _answer(self, number: int, deadline: float, tensors: Arrays) -> None:
        asked = self._worker.chained.ask(tensors, deadline=deadline)
        asked.add_done_callback(partial(self._back, number, deadline))

    def _back(self, number: int, deadline: float, asked: Future[Arrays]) -> None:
        error = asked.exception()
        if error is None:
            message = labelled(asked.result(), Label(number))
        else:
            known = (
                error if isinstance(error, IsthmusError) else InvalidModel(f"{type(error).__name__}: {error}")
            )
            message = failure(number, known)
        reply = partial(self._reply, number, message, deadline, failed=error is not None)
        if threading.get_ident() == self._attending:
            reply()
            return
        try:
            self._sender.submit(reply)
        except RuntimeError:
            self._worker.say(f"the answer to question {number} came after the channel's end")

    def _reply(self, number: int, message: Arrays, deadline: float, *, failed: bool = False) -> None:
        try:
            with self._sending:
                # Who asked does not wait any longer than that; a moment more lets the reason reach it.
                self._channel.send(message, deadline=max(deadline, within(LOOK_SECONDS)))
            self._worker.count(failed=failed)
        except IsthmusError as error:
            self._worker.say(f"the answer to question {number} was not taken: {error}")
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify_all()
