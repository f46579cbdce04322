"""Workers of one training meet: each has a channel to each that it shares tensors with, all made in one epoch.

The worker with the smaller number listens. Who loses a channel, or meets one that has started anew, goes on to the
next epoch and closes all its channels, so that those at their other ends do the same; of two epochs the later one
holds. So all begin together again, whoever was lost.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial

from isthmus.errors import DeadlineExceeded, InvalidInput, IsthmusError, SessionLost, Unavailable
from isthmus.ports import Clock, Threads
from isthmus.transport.ports import Channel, Listener, Transport
from isthmus.workflows.slice_notes import Hello, message, read

LOOK_SECONDS = 0.1
HELLO_SECONDS = 5.0
"""What a greeting and its answer may take."""
PAUSE_SECONDS = 0.05
"""Between two tries to reach who is not there yet."""


class Meeting:
    """One worker's side. ``lower``: the ways to workers of smaller numbers; ``higher``: who will come.

    ``fingerprint``: a SHA-256 of what is trained and how, the same for all. ``clock``: of the transport's deadlines.
    """

    def __init__(
        self,
        worker: int,
        fingerprint: str,
        lower: Mapping[int, Transport],
        higher: frozenset[int],
        listener: Listener | None,
        threads: Threads,
        clock: Clock,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._worker = worker
        self._fingerprint = fingerprint
        self._lower = lower
        self._higher = higher
        self._listener = listener
        self.threads = threads
        self.clock = clock
        self._say = say
        # Held for moments alone, and never while somebody is waited for.
        self._lock = threading.Lock()
        self._changed = threads.flag()
        self._epoch = 0
        self._joined = -1
        self._channels: dict[int, Channel] = {}
        self._closed = False
        if listener is not None:
            threads.start("isthmus-meeting", self._attend)

    def join(self, *, deadline: float) -> dict[int, Channel]:
        """Return a channel to each worker.

        Raises:
            DeadlineExceeded: not all were there in time; the message names who was missing.
            InvalidInput: another one trains something else.
            PeerUntrusted: it is not who it should be.
        """
        while True:
            epoch = self._epoch
            for worker in self._lower:
                self._greet(worker, epoch, deadline)
            if not self._settled(epoch):
                self._changed.wait(LOOK_SECONDS)
            with self._lock:
                self._changed.clear()
                if self._epoch == epoch and self._complete():
                    self._joined = epoch
                    return dict(self._channels)
                missing = sorted({*self._lower, *self._higher} - set(self._channels))
            if self.clock.now() > deadline:
                raise DeadlineExceeded(
                    f"worker {self._worker} waits for {', '.join(f'worker {k}' for k in missing) or 'a common start'}; "
                    "start it, or look at why it does not come"
                )

    def check(self) -> None:
        """Raises SessionLost: since ``join`` somebody has begun anew."""
        if self._epoch != self._joined:
            raise SessionLost("another worker has begun anew")

    def leave(self) -> None:
        """Go on to the next epoch, if the one that was joined is still the newest."""
        with self._lock:
            if self._epoch == self._joined:
                self._move(self._epoch + 1)

    def close(self) -> None:
        """End everything; what was sent still arrives."""
        self._closed = True
        with self._lock:
            channels, self._channels = self._channels, {}
        for channel in channels.values():
            with suppress(IsthmusError, OSError):
                channel.close()
        if self._listener is not None:
            self._listener.close()

    def _settled(self, epoch: int) -> bool:
        return self._complete() or self._epoch != epoch

    def _complete(self) -> bool:
        return set(self._channels) == {*self._lower, *self._higher}

    def _move(self, epoch: int) -> None:
        """Begin an epoch; the lock is held."""
        lost, self._channels = list(self._channels.values()), {}
        self._epoch = epoch
        self._changed.set()
        # Beside what goes on: to close waits for the other side, which may be gone.
        self.threads.start("isthmus-closing", partial(_close_all, lost))

    def _greet(self, worker: int, epoch: int, deadline: float) -> None:
        """Make a channel to a worker, if there is none; or learn of a later epoch, or that nobody is there."""
        with self._lock:
            if worker in self._channels or self._epoch != epoch:
                return
        soon = min(deadline, self._soon())
        channel = None
        try:
            channel = self._lower[worker].connect(deadline=soon)
            channel.send(message(Hello(self._worker, epoch, self._fingerprint)), deadline=soon)
            answer, _ = read(channel.receive(deadline=soon))
        except Unavailable as error:
            self._say(f"worker {worker} is not there yet: {error}")
            if channel is not None:
                _close_all([channel])
            self.clock.sleep(PAUSE_SECONDS)
            return
        if not isinstance(answer, Hello) or answer.fingerprint != self._fingerprint:
            raise InvalidInput(
                f"worker {worker} trains another network, or in another way; give all the same job"
            )
        with self._lock:
            if answer.epoch > self._epoch:
                self._move(answer.epoch)
            elif answer.epoch == epoch == self._epoch:
                self._channels[worker] = channel
                return
        _close_all([channel])

    def _attend(self) -> None:
        while not self._closed and self._listener is not None:
            try:
                channel = self._listener.accept(deadline=self.clock.now() + LOOK_SECONDS)
            except DeadlineExceeded:
                continue
            self.threads.start("isthmus-greeting", partial(self._receive, channel))

    def _receive(self, channel: Channel) -> None:
        try:
            hello, _ = read(channel.receive(deadline=self._soon()))
            if isinstance(hello, Hello) and self._admit(hello, channel):
                return
        except IsthmusError as error:
            self._say(f"somebody came and went: {error}")
        _close_all([channel])

    def _admit(self, hello: Hello, channel: Channel) -> bool:
        """Answer a greeting; return whether the channel is one of the epoch's."""
        fits = hello.fingerprint == self._fingerprint and hello.worker in self._higher
        with self._lock:
            if fits and hello.epoch > self._epoch:
                self._move(hello.epoch)
            elif fits and hello.epoch == self._epoch and hello.worker in self._channels:
                self._move(self._epoch + 1)
            epoch = self._epoch
        channel.send(message(Hello(self._worker, epoch, self._fingerprint)), deadline=self._soon())
        if not fits or hello.epoch != epoch:
            return False
        with self._lock:
            if self._epoch != epoch:
                return False
            if hello.worker in self._channels:
                # It greeted twice, and which of the two it goes on with is not known here.
                self._move(epoch + 1)
                return False
            self._channels[hello.worker] = channel
            self._changed.set()
            return True

    def _soon(self) -> float:
        return self.clock.now() + HELLO_SECONDS


def _close_all(channels: list[Channel]) -> None:
    for channel in channels:
        with suppress(IsthmusError, OSError):
            channel.close()
