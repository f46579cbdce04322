"""Channels of a simulated world: the direct stream's numbers (``isthmus.transport.session``) over connections that
break, and that bring frames late, twice and out of order.

What the stream itself does with sockets, threads and checksums is not here; ``slice_chaos`` has that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

from benchmarks.simulation.scheduler import Flag, Process, Scheduler
from isthmus.errors import ChannelClosed, DeadlineExceeded, InvalidFrame, IsthmusError, SessionLost
from isthmus.transport.casts import Packed
from isthmus.transport.session import Incoming, Kept, Outgoing

LATENCY_SECONDS = 0.004
LINGER_SECONDS = 2.0
KEPT_SECONDS = 60.0


@dataclass
class Weather:
    """How likely each trouble is for a frame. ``clear`` ends all of it."""

    breaks: float = 0.0
    duplicates: float = 0.0
    reorders: float = 0.0
    slow: float = 0.0

    def clear(self) -> None:
        self.breaks = self.duplicates = self.reorders = self.slow = 0.0


@dataclass
class Sent:
    """What a message is to ``Outgoing``."""

    tensors: dict[str, Any]
    size_bytes: int = 1


@dataclass
class Network:
    """All lines; ``doors``: by worker, where the one that lives now listens."""

    scheduler: Scheduler
    weather: Weather
    incoming: Callable[[], Incoming] = Incoming
    doors: dict[int, Door] = field(default_factory=dict)
    sessions: list[Session] = field(default_factory=list)
    breaks: int = 0

    def latency(self) -> float:
        """Return a frame's time on its way."""
        lot = self.scheduler.random
        return lot.expovariate(2.0) if lot.random() < self.weather.slow else lot.random() * LATENCY_SECONDS

    def died(self, process: Process) -> None:
        """A process's connections break with it."""
        for session in self.sessions:
            if process in (end.process for end in session.ends):
                session.drop()
        self.sessions = [each for each in self.sessions if not each.is_over()]


class End:
    """``Channel``."""

    def __init__(self, session: Session, process: Process) -> None:
        self.process = process
        self.session = session
        self.outgoing, self.incoming = Outgoing(), session.network.incoming()
        self.inbox: deque[dict[str, Any]] = deque()
        self.changed = Flag(process.scheduler)
        self.ended: IsthmusError | None = None
        self.last_at = 0.0

    def other(self) -> End:
        """Return the other end."""
        return self.session.ends[self is self.session.ends[0]]

    def send(self, tensors: Mapping[str, Any], *, deadline: float) -> None:
        self.process.die("before a message")
        self.process.scheduler.pause(self.process.scheduler.random.random() * 1e-3)
        self._await(lambda: self.outgoing.has_room(1), deadline)
        if self.ended is not None:
            raise self.ended
        self.session.carry(self, self.outgoing.add(cast(Packed, Sent(dict(tensors)))))
        self.process.die("after a message")

    def receive(self, *, deadline: float) -> dict[str, Any]:
        self.process.alive()
        if not self.inbox:
            self._tell()
            self._await(lambda: bool(self.inbox), deadline)
        self.process.die("with a message")
        found = self.inbox.popleft()
        self.incoming.take(1)
        if self.incoming.is_due or self.ended is not None:
            self._tell()
        return dict(found)

    def close(self) -> None:
        self.process.alive()
        scheduler = self.process.scheduler
        if self.ended is None:
            self.session.carry(self, None)
            until = scheduler.now + LINGER_SECONDS
            with suppress(IsthmusError):
                self._await(lambda: not self.outgoing.pending, until)
        self.lose(ChannelClosed("this side closed the channel"))

    def lose(self, error: IsthmusError) -> None:
        """End it."""
        self.ended = self.ended or error
        self.changed.set()

    def _tell(self) -> None:
        if self.incoming.told != self.incoming.taken:
            self.session.frame(self, "ack", -1, {})

    def _await(self, done: Callable[[], bool], deadline: float) -> None:
        scheduler = self.process.scheduler
        while not done():
            if self.ended is not None:
                raise self.ended
            if scheduler.now >= deadline:
                raise DeadlineExceeded("nothing came from the other side in time")
            self.changed.clear()
            self.changed.wait(deadline - scheduler.now)


class Session:
    """A channel's two ends (who connected, who listened), and the connection between them at present."""

    def __init__(self, network: Network, caller: Process, door: Door) -> None:
        self.network = network
        self.door = door
        self.ends = (End(self, caller), End(self, door.process))
        self._generation = 0
        self._connected = True
        network.sessions.append(self)

    def is_over(self) -> bool:
        """Whether nobody needs it."""
        return all(end.ended is not None or end.process.dead for end in self.ends)

    def carry(self, end: End, kept: Kept | None) -> None:
        """Send a message on its way; None: a goodbye. Without a connection it waits for the next one."""
        if kept is None:
            self.frame(end, "bye", -1, {})
        else:
            self.frame(end, "data", kept.sequence, cast(Any, kept.packed).tensors)

    def frame(self, end: End, kind: str, sequence: int, tensors: dict[str, Any]) -> None:
        """Let a frame arrive, if the line is good."""
        if not self._connected:
            return
        scheduler, lot, weather = self.network.scheduler, self.network.scheduler.random, self.network.weather
        if lot.random() < weather.breaks:
            self.drop()
            return
        at = max(scheduler.now + self.network.latency(), end.last_at)
        if lot.random() < weather.reorders:
            at += lot.random() * 0.05
        else:
            end.last_at = at
        told, generation = end.incoming.tell(), self._generation
        if scheduler.is_traced:
            scheduler.trace(end.process.name, f"{kind} {sequence}", to=end.other().process.name, told=told)
        for k in range(1 + (lot.random() < weather.duplicates)):
            scheduler.at(
                at - scheduler.now + k * lot.random() * 0.02,
                lambda: self._arrive(end.other(), generation, kind, sequence, tensors, told),
            )

    def _arrive(
        self, to: End, generation: int, kind: str, sequence: int, tensors: dict[str, Any], told: int
    ) -> None:
        if generation != self._generation or to.process.dead or to.ended is not None:
            return
        try:
            to.outgoing.acknowledge(told)
            if kind == "data" and to.incoming.is_new(sequence):
                to.inbox.append(tensors)
        except InvalidFrame:
            self.drop()
            return
        if kind == "bye":
            to.lose(ChannelClosed("the other side closed the channel"))
        to.changed.set()

    def drop(self) -> None:
        """Break the connection; what was on its way is gone."""
        if not self._connected:
            return
        self._connected = False
        self._generation += 1
        self.network.scheduler.trace("line", "broke", ends=",".join(end.process.name for end in self.ends))
        self.network.breaks += 1
        scheduler = self.network.scheduler
        scheduler.at(scheduler.random.random() * 0.3, self._reconnect)
        generation = self._generation
        scheduler.at(KEPT_SECONDS, lambda: self._forget(generation))

    def _forget(self, generation: int) -> None:
        if self._generation == generation and not self._connected:
            self.ends[1].lose(SessionLost("the other side has not connected again"))

    def _reconnect(self) -> None:
        caller, listener = self.ends
        if caller.process.dead or caller.ended is not None:
            return
        current = self.network.doors[self.door.worker]
        if listener.process.dead and not current.is_open():
            self.network.scheduler.at(0.3, self._reconnect)
            return
        if listener.process.dead or listener.ended is not None:
            caller.lose(SessionLost("this side does not know the session"))
            return
        self._connected = True
        for end in self.ends:
            end.last_at = 0.0
            try:
                for kept in end.outgoing.missing(end.other().incoming.received):
                    self.carry(end, kept)
            except IsthmusError as error:
                end.lose(error)


class Door:
    """``Listener``, of one life of a worker."""

    def __init__(self, network: Network, worker: int, process: Process) -> None:
        self.worker = worker
        self.process = process
        self._came: deque[End] = deque()
        self._changed = Flag(process.scheduler)
        self._closed = False
        network.doors[worker] = self

    def is_open(self) -> bool:
        """Whether somebody listens."""
        return not self._closed and not self.process.dead

    def come(self, end: End) -> None:
        """Somebody connected."""
        self._came.append(end)
        self._changed.set()

    def accept(self, *, deadline: float) -> End:
        self.process.alive()
        if not self._came:
            self._changed.clear()
            self._changed.wait(max(0.0, deadline - self.process.scheduler.now))
        if not self._came:
            raise DeadlineExceeded("nobody connected in time")
        return self._came.popleft()

    def close(self) -> None:
        self._closed = True


@dataclass
class Way:
    """``Transport``."""

    network: Network
    process: Process
    worker: int

    def connect(self, *, deadline: float) -> End:
        scheduler = self.network.scheduler
        while True:
            self.process.die("before a connection")
            scheduler.pause(self.network.latency())
            door = self.network.doors.get(self.worker)
            if door is not None and door.is_open():
                session = Session(self.network, self.process, door)
                scheduler.at(self.network.latency(), partial(door.come, session.ends[1]))
                return session.ends[0]
            if scheduler.now >= deadline:
                raise DeadlineExceeded(f"worker {self.worker} was not reached in time")
            scheduler.pause(0.2)
