"""Workers of one training meet: each has a channel to each that it shares tensors with, all made in one epoch.

The worker with the smaller number listens. Who loses a channel, or meets one that has started anew, goes on to the
next epoch and closes all its channels, so that those at their other ends do the same; of two epochs the later one
holds. So all begin together again, whoever was lost.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from isthmus.errors import DeadlineExceeded, InvalidInput, IsthmusError, SessionLost, Unavailable
from isthmus.transport.ports import Channel, Listener, Transport, within
from isthmus.workflows.slice_notes import Hello, message, read

LOOK_SECONDS = 0.1
HELLO_SECONDS = 5.0
"""What a greeting and its answer may take."""
PAUSE_SECONDS = 0.05
"""Between two tries to reach who is not there yet."""


class Meeting:
    """One worker's side. ``lower``: the ways to workers of smaller numbers; ``higher``: who will come.

    ``fingerprint``: a SHA-256 of what is trained and how, the same for all.
    """

    def __init__(
        self,
        worker: int,
        fingerprint: str,
        lower: Mapping[int, Transport],
        higher: frozenset[int],
        listener: Listener | None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._worker = worker
        self._fingerprint = fingerprint
        self._lower = lower
        self._higher = higher
        self._listener = listener
        self._say = say
        self._changed = threading.Condition()
        self._epoch = 0
        self._joined = -1
        self._channels: dict[int, Channel] = {}
        self._closed = False
        if listener is not None:
            threading.Thread(target=self._attend, daemon=True, name="isthmus-meeting").start()

    def join(self, *, deadline: float) -> dict[int, Channel]:
        """Return a channel to each worker.

        Raises:
            DeadlineExceeded: not all were there in time; the message names who was missing.
            InvalidInput: another one trains something else.
            PeerUntrusted: it is not who it should be.
        """
        while True:
            with self._changed:
                epoch = self._epoch
            for worker in self._lower:
                self._greet(worker, epoch, deadline)
            with self._changed:
                self._changed.wait_for(partial(self._settled, epoch), LOOK_SECONDS)
                if self._epoch == epoch and self._complete():
                    self._joined = epoch
                    return dict(self._channels)
                missing = sorted({*self._lower, *self._higher} - set(self._channels))
            if time.monotonic() > deadline:
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
        with self._changed:
            if self._epoch == self._joined:
                self._move(self._epoch + 1)

    def close(self) -> None:
        """End everything; what was sent still arrives."""
        self._closed = True
        with self._changed:
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
        """Begin an epoch; the condition is held."""
        lost, self._channels = list(self._channels.values()), {}
        self._epoch = epoch
        self._changed.notify_all()
        # Beside what goes on: to close waits for the other side, which may be gone.
        threading.Thread(target=_close_all, args=(lost,), daemon=True).start()

    def _greet(self, worker: int, epoch: int, deadline: float) -> None:
        """Make a channel to a worker, if there is none; or learn of a later epoch, or that nobody is there."""
        with self._changed:
            if worker in self._channels or self._epoch != epoch:
                return
        soon = min(deadline, within(HELLO_SECONDS))
        channel = None
        try:
            channel = self._lower[worker].connect(deadline=soon)
            channel.send(message(Hello(self._worker, epoch, self._fingerprint)), deadline=soon)
            answer, _ = read(channel.receive(deadline=soon))
        except Unavailable as error:
            self._say(f"worker {worker} is not there yet: {error}")
            if channel is not None:
                _close_all([channel])
            time.sleep(PAUSE_SECONDS)
            return
        if not isinstance(answer, Hello) or answer.fingerprint != self._fingerprint:
            raise InvalidInput(
                f"worker {worker} trains another network, or in another way; give all the same job"
            )
        with self._changed:
            if answer.epoch > self._epoch:
                self._move(answer.epoch)
            elif answer.epoch == epoch == self._epoch:
                self._channels[worker] = channel
                return
        _close_all([channel])

    def _attend(self) -> None:
        while not self._closed and self._listener is not None:
            try:
                channel = self._listener.accept(deadline=within(LOOK_SECONDS))
            except DeadlineExceeded:
                continue
            threading.Thread(target=self._receive, args=(channel,), daemon=True).start()

    def _receive(self, channel: Channel) -> None:
        try:
            hello, _ = read(channel.receive(deadline=within(HELLO_SECONDS)))
            if isinstance(hello, Hello) and self._admit(hello, channel):
                return
        except IsthmusError as error:
            self._say(f"somebody came and went: {error}")
        _close_all([channel])

    def _admit(self, hello: Hello, channel: Channel) -> bool:
        """Answer a greeting; return whether the channel is one of the epoch's."""
        with self._changed:
            fits = hello.fingerprint == self._fingerprint and hello.worker in self._higher
            if fits and hello.epoch > self._epoch:
                self._move(hello.epoch)
            elif fits and hello.epoch == self._epoch and hello.worker in self._channels:
                self._move(self._epoch + 1)
            mine: Any = Hello(self._worker, self._epoch, self._fingerprint)
            channel.send(message(mine), deadline=within(HELLO_SECONDS))
            if not fits or hello.epoch != self._epoch:
                return False
            self._channels[hello.worker] = channel
            self._changed.notify_all()
            return True


def _close_all(channels: list[Channel]) -> None:
    for channel in channels:
        with suppress(IsthmusError, OSError):
            channel.close()
