"""The channels of one meeting of workers: notes up and down a tree, and the tensors of passes, by what they are."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from isthmus.errors import DeadlineExceeded, InvalidFrame, InvalidJob, IsthmusError
from isthmus.ports import Clock, Threads
from isthmus.transport.ports import Channel
from isthmus.workflows.slice_meeting import Meeting
from isthmus.workflows.slice_notes import FILE, Crossing, Kept, Note, Place, message, read, restored

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = dict[str, NDArray[Any]]

LOOK_SECONDS = 0.25
"""Between two looks at whether others have begun anew."""


class Crew:
    """The channels of one meeting. What this worker's slices send each other stays here."""

    def __init__(
        self, worker: int, channels: Mapping[int, Channel], meeting: Meeting, patience_seconds: float
    ) -> None:
        self._worker = worker
        self._channels = channels
        self._meeting = meeting
        self._patience_seconds = patience_seconds
        self._clock = meeting.clock
        self._senders = {
            other: _Sender(channel, patience_seconds, meeting.threads, meeting.clock)
            for other, channel in channels.items()
        }
        self._crossings: dict[tuple[str, int, int, int, int], Arrays] = {}
        self._notes: dict[int, list[Note]] = {other: [] for other in channels}
        self._files: list[tuple[Kept, bytes]] = []
        self.parent = max((other for other in channels if other < worker), default=None)
        self._children: tuple[int, ...] = ()

    def meet(self) -> None:
        """Find out who speaks for whom.

        Raises:
            IsthmusError: as ``hear``.
        """
        # A worker's parent is the last one before it that it shares tensors with; so it says, before anything else.
        for other in self._channels:
            if other < self._worker:
                self.tell(other, Place(other == self.parent))
        later = sorted(other for other in self._channels if other > self._worker)
        self._children = tuple(other for other in later if self.hear(other, Place).under)

    def gather(self, kind: type[Any]) -> list[Any]:
        """Return what each worker that this one speaks for says."""
        return [self.hear(other, kind) for other in self._children]

    def tell(self, other: int, note: Note) -> None:
        """Send a note."""
        self.send(other, message(note))

    def tell_all(self, note: Note) -> None:
        """Send a note to all that this one speaks for."""
        for other in self._children:
            self.tell(other, note)

    def send(self, other: int, sent: Arrays) -> None:
        """Send a message, without waiting for its way.

        Raises:
            IsthmusError: an earlier one could not be sent.
        """
        if other == self._worker:
            self._take(other, sent)
        else:
            self._senders[other].put(sent)

    def hear(self, other: int, kind: type[Any]) -> Any:
        """Return the next note of a worker.

        Raises:
            InvalidFrame: it is of another kind.
            IsthmusError: as ``receive``.
        """
        self._wait(other, lambda: bool(self._notes[other]))
        note = self._notes[other].pop(0)
        if not isinstance(note, kind):
            raise InvalidFrame(f"worker {other} said {type(note).__name__} where {kind.__name__} was due")
        return note

    def receive(self, other: int, wanted: tuple[str, int, int, int, int]) -> Arrays:
        """Return the arrays of a pass.

        Raises:
            SessionLost, ChannelClosed: who should send them is gone.
            DeadlineExceeded: they did not come.
        """
        if other != self._worker:
            self._wait(other, lambda: wanted in self._crossings)
        try:
            return self._crossings.pop(wanted)
        except KeyError:
            raise InvalidFrame(
                f"the passes of worker {self._worker} are not in an order that can run"
            ) from None

    def hand(self, other: int, kept: Kept, raw: bytes) -> None:
        """Send a file of a checkpoint; it is there before the next note.

        Raises:
            InvalidJob: there is no channel to that worker.
        """
        import numpy as np

        if other not in self._senders:
            raise InvalidJob(
                f"worker {self._worker} shares no tensors with worker {other}, and cannot bring it a checkpoint"
            )
        self.send(other, message(kept, {FILE: np.frombuffer(raw, np.uint8)}))

    def handed(self) -> list[tuple[Kept, bytes]]:
        """Return the files that came since the last call."""
        found, self._files = self._files, []
        return found

    def finish(self) -> None:
        """Return when all that was sent is on its way."""
        for sender in self._senders.values():
            sender.finish()

    def end(self) -> None:
        """Send no more; does not wait."""
        for sender in self._senders.values():
            sender.end()

    def _wait(self, other: int, there: Callable[[], bool]) -> None:
        until = self._clock.now() + self._patience_seconds
        while not there():
            self._meeting.check()
            for sender in self._senders.values():
                sender.check()
            try:
                self._take(other, self._channels[other].receive(deadline=self._clock.now() + LOOK_SECONDS))
            except DeadlineExceeded:
                if self._clock.now() > until:
                    raise DeadlineExceeded(
                        f"worker {other} sent nothing for {self._patience_seconds:g} s"
                    ) from None

    def _take(self, other: int, received: Arrays) -> None:
        note, tensors = read(received)
        if isinstance(note, Crossing):
            key = (note.kind, note.source, note.target, note.step, note.microbatch)
            self._crossings[key] = restored(note, tensors)
        elif isinstance(note, Kept):
            self._files.append((note, tensors[FILE].tobytes()))
        else:
            self._notes[other].append(note)


class _Sender:
    """Sends what it is given in a thread of its own, so that a slice computes meanwhile."""

    def __init__(self, channel: Channel, seconds: float, threads: Threads, clock: Clock) -> None:
        self._channel = channel
        self._seconds = seconds
        self._clock = clock
        self._waiting: deque[Arrays | None] = deque()
        self._given, self._over = threads.flag(), threads.flag()
        self._error: IsthmusError | None = None
        threads.start("isthmus-slice-sender", self._run)

    def put(self, sent: Arrays) -> None:
        self.check()
        self._add(sent)

    def check(self) -> None:
        if self._error is not None:
            raise self._error

    def end(self) -> None:
        self._add(None)

    def finish(self) -> None:
        self.end()
        self._over.wait(self._seconds)
        self.check()

    def _add(self, sent: Arrays | None) -> None:
        self._waiting.append(sent)
        self._given.set()

    def _run(self) -> None:
        try:
            while (sent := self._next()) is not None:
                self._channel.send(sent, deadline=self._clock.now() + self._seconds)
        except IsthmusError as error:
            self._error = error
        finally:
            self._over.set()

    def _next(self) -> Arrays | None:
        while not self._waiting:
            self._given.wait()
            # Before the look that follows: what is added after it sets it again.
            self._given.clear()
        return self._waiting.popleft()
