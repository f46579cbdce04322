"""Requests against a processor and an uplink, event by event in virtual time.

The processor runs one slice at a time, first come, first served; between two slices a request that was answered gives
up its place. The uplink carries one transfer at a time at the trace's rate, in the order in which they became ready;
one that nobody waits for any more leaves it at once. Latency and the cloud's seconds come on top; there is room for
all.
"""

from __future__ import annotations

import functools
import heapq
import itertools
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.balancing.request import Network, Request
from benchmarks.balancing.trace import Trace
from isthmus.edge.balancer import Balancer, Now, Option


@dataclass
class Events:
    """A clock that jumps from one event to the next; those of one moment happen in the order they were made in."""

    now: float = 0.0
    _waiting: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _order: itertools.count[int] = field(default_factory=itertools.count)

    def at(self, when: float, event: Callable[[], None]) -> None:
        """Let something happen at a time."""
        heapq.heappush(self._waiting, (when, next(self._order), event))

    def run(self) -> None:
        """Let everything happen."""
        while self._waiting:
            self.now, _, event = heapq.heappop(self._waiting)
            event()


@dataclass
class Job:
    """Slices of a request, by their seconds, and what happens after the last."""

    request: Request
    slices: deque[float]
    then: Callable[[], None]
    slice_ends: float = 0.0


@dataclass
class Processor:
    """``busy``: seconds that it worked."""

    events: Events
    busy: float = 0.0
    _jobs: deque[Job] = field(default_factory=deque)
    _job: Job | None = None

    def backlog(self) -> float:
        """Return the seconds of what it has to do."""
        waiting = sum(sum(job.slices) for job in self._jobs if not job.request.answers)
        if self._job is None:
            return waiting
        return waiting + self._job.slice_ends - self.events.now + sum(self._job.slices)

    def add(self, request: Request, slices: Sequence[float], then: Callable[[], None]) -> None:
        """Run slices of a request when their turn comes."""
        self._jobs.append(Job(request, deque(slices), then))
        self._begin()

    def _begin(self) -> None:
        while self._job is None and self._jobs:
            job = self._jobs.popleft()
            if not job.request.answers:
                self._job = job
                self._step(job)

    def _step(self, job: Job) -> None:
        if job.request.answers or not job.slices:
            self._job = None
            if not job.request.answers:
                job.then()
            self._begin()
            return
        seconds = job.slices.popleft()
        self.busy += seconds
        job.slice_ends = self.events.now + seconds
        self.events.at(job.slice_ends, functools.partial(self._step, job))


@dataclass
class Transfer:
    """Bytes of a request on their way since ``began``."""

    request: Request
    size_bytes: float
    then: Callable[[], None]
    began: float = 0.0


@dataclass
class Uplink:
    """``sent_bytes``: that went through it, those of transfers that were given up included."""

    events: Events
    trace: Trace
    sent_bytes: float = 0.0
    _waiting: deque[Transfer] = field(default_factory=deque)
    _current: Transfer | None = None

    def send(self, request: Request, size_bytes: float, then: Callable[[], None]) -> None:
        """Send bytes of a request when their turn comes."""
        self._waiting.append(Transfer(request, size_bytes, then))
        self._begin()

    def give_up(self, request: Request) -> float:
        """Stop sending for a request; return the bytes of it that went through in vain."""
        if self._current is None or self._current.request is not request:
            return 0.0
        done = self.trace.moved(self.events.now) - self.trace.moved(self._current.began)
        self.sent_bytes += done
        self._current = None
        self._begin()
        return done

    def _begin(self) -> None:
        while self._current is None and self._waiting:
            transfer = self._waiting.popleft()
            if not transfer.request.answers:
                self._current, transfer.began = transfer, self.events.now
                ends = self.trace.finishes(self.events.now, transfer.size_bytes)
                self.events.at(ends, functools.partial(self._sent, transfer))

    def _sent(self, transfer: Transfer) -> None:
        if transfer is not self._current:
            return
        self._current = None
        self.sent_bytes += transfer.size_bytes
        transfer.then()
        self._begin()


@dataclass
class World:
    """Runs requests as a balancer says, and tells it what became of its transfers."""

    network: Network
    trace: Trace
    balancer: Balancer
    events: Events = field(default_factory=Events)
    wasted_bytes: float = 0.0
    raw_sent_forbidden: int = 0
    """Counted where bytes move, whatever the balancer was told."""

    def __post_init__(self) -> None:
        self.processor = Processor(self.events)
        self.uplink = Uplink(self.events, self.trace)
        self.options = self.network.options()

    def run(self, requests: Sequence[Request]) -> list[float]:
        """Return each request's latency."""
        for request in requests:
            self.events.at(request.arrives, functools.partial(self._arrive, request))
        self.events.run()
        return [request.ends - request.arrives for request in requests]

    def _arrive(self, request: Request) -> None:
        choice = self.balancer.choose(Now(self.events.now, self.processor.backlog()), self.options)
        option, slices = choice.option, self.network.slices
        request.option = option
        if option.kind == "local":
            self.processor.add(request, slices, lambda: self._answer(request, "local"))
        elif option.cut:
            headed = functools.partial(self._ask, request, option, choice.hedge_seconds)
            self.processor.add(request, slices[: option.cut], headed)
        else:
            self._ask(request, option, choice.hedge_seconds)

    def _ask(self, request: Request, option: Option, hedge_seconds: float) -> None:
        if option.cut == 0 and not self.network.raw_may_leave:
            self.raw_sent_forbidden += 1
        request.asked_at = self.events.now
        self.uplink.send(request, option.moved_bytes, lambda: self._run_there(request, option))
        self.events.at(self.events.now + hedge_seconds, lambda: self._run_here(request, option))

    def _run_there(self, request: Request, option: Option) -> None:
        seconds = option.cloud_seconds * request.noise
        back = functools.partial(self._back, request, option, seconds)
        self.events.at(self.events.now + self.trace.latency_seconds + seconds, back)

    def _back(self, request: Request, option: Option, seconds: float) -> None:
        if request.answers:
            self.wasted_bytes += option.moved_bytes
        wire = self.events.now - request.asked_at - seconds
        self.balancer.link.moved(self.events.now, option.moved_bytes, wire)
        self._answer(request, option.kind)

    def _run_here(self, request: Request, option: Option) -> None:
        if not request.answers:
            rest = self.network.slices[option.cut :]
            self.processor.add(request, rest, lambda: self._here(request, option))

    def _here(self, request: Request, option: Option) -> None:
        self._answer(request, "local")
        self.wasted_bytes += self.uplink.give_up(request)
        self.balancer.link.stalled(self.events.now, option.moved_bytes, self.events.now - request.asked_at)

    def _answer(self, request: Request, by: str) -> None:
        """Give the caller an answer, unless there was one: then this one is dropped."""
        if not request.answers:
            request.ends, request.by = self.events.now, by
            request.answers += 1
