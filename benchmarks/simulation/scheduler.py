"""One thread, virtual time, and a seed that decides who goes next: what a simulated world runs on.

Every strand is a greenlet of a process. Whatever a port would wait for in the world, it waits for here, and while it
does the others go on. Of a process that is killed nothing has an effect any more: what unwinds in it can neither call
a port nor change the disk.
"""

from __future__ import annotations

import heapq
import random
import sys
from collections.abc import Callable
from typing import Any

from greenlet import getcurrent, greenlet

START_SECONDS = 1_800_000_000.0
DURABLE = frozenset({"os.rename", "os.remove", "os.link", "os.symlink", "os.rmdir", "shutil.rmtree"})
"""Audit events (docs.python.org, "Audit events table") of what changes a folder: a process may die before each."""


class Dead(BaseException):
    """The process was killed; no product code catches it."""


class Process:
    """What dies as a whole: an agent's life, or one call of a function."""

    def __init__(self, name: str, scheduler: Scheduler) -> None:
        self.name = name
        self.scheduler = scheduler
        self.dead = False
        self.may_die: Callable[[str], bool] = lambda where: False
        self.failed: Callable[[str, Exception], None] = lambda strand, error: None
        self.stalled_until = 0.0
        self.strands: list[Strand] = []

    def start(self, name: str, run: Callable[[], None]) -> Callable[[], None]:
        """Run it beside the others; return what waits for its end. ``ports.Threads``."""
        self.alive()
        strand = Strand(self, name, run)
        self.strands.append(strand)
        self.scheduler.wake(strand)

        def join() -> None:
            strand.ended.wait()

        return join

    def flag(self) -> Flag:
        """``ports.Threads``."""
        return Flag(self.scheduler)

    def alive(self) -> None:
        """Raises Dead when it is not."""
        if self.dead:
            raise Dead

    def kill(self) -> None:
        """End it now. To be called by the scheduler, between two strands."""
        self.dead = True
        for strand in self.strands:
            if strand:  # begun, and not over
                strand.throw(Dead)

    def die(self, where: str) -> None:
        """End the process from within if its lot says so."""
        self.alive()
        if self.may_die(where):
            self.scheduler.trace(self.name, f"KILLED at {where}")
            self.dead = True
            raise Dead


class Strand(greenlet):  # type: ignore[misc,unused-ignore]
    """A thread of a process."""

    def __init__(self, process: Process, name: str, run: Callable[[], None]) -> None:
        super().__init__(self._go, process.scheduler.hub)
        self.process = process
        self.name = name
        self.turn = 0
        self.ended = Flag(process.scheduler)
        self._work = run

    def _go(self) -> None:
        try:
            self._work()
        except Dead:
            return
        except Exception as error:
            self.process.failed(self.name, error)
        finally:
            self.ended.set()


class Flag:
    """``ports.Flag``, over virtual time."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._set = False
        self._waiting: list[Strand] = []

    def set(self) -> None:
        self._set = True
        for strand in self._waiting:
            self._scheduler.wake(strand)
        self._waiting.clear()

    def clear(self) -> None:
        self._set = False

    def is_set(self) -> bool:
        return self._set

    def wait(self, timeout: float | None = None) -> bool:
        if self._set:
            return True
        strand = self._scheduler.current()
        self._waiting.append(strand)
        self._scheduler.pause(timeout)
        if strand in self._waiting:
            self._waiting.remove(strand)
        return self._set


class Scheduler:
    """Wakes strands in the order of virtual time; the seed's small delays decide between those of one moment."""

    def __init__(self, seed: int, log: Callable[[str], None] | None = None) -> None:
        self.random = random.Random(seed)
        self.now = START_SECONDS
        self.hub = getcurrent()
        self.turns = 0
        self._log = log
        self.is_traced = log is not None
        self._heap: list[tuple[float, int, Strand | Callable[[], None], int]] = []
        self._number = 0

    def trace(self, who: str, what: str, **fields: Any) -> None:
        """Write a line of the trace, if somebody reads it."""
        if self._log is not None:
            more = " ".join(f"{name}={value}" for name, value in fields.items())
            self._log(f"{self.now - START_SECONDS:10.3f} {who:<12} {what} {more}".rstrip())

    def current(self) -> Strand:
        """Return the strand that runs; ports are called by strands alone."""
        strand = getcurrent()
        assert isinstance(strand, Strand)
        return strand

    def at(self, seconds: float, call: Callable[[], None]) -> None:
        """Call between two strands, ``seconds`` from now."""
        self._push(seconds, call, 0)

    def wake(self, strand: Strand) -> None:
        """Let a strand go on, soon: the seed decides after whom."""
        strand.turn += 1
        self._push(self.random.random() * 0.001, strand, strand.turn)

    def pause(self, seconds: float | None) -> None:
        """Let the others go on: for some virtual time, or until somebody wakes the strand."""
        strand = self.current()
        process = strand.process
        if process.dead:
            raise Dead
        strand.turn += 1
        if seconds is not None:
            self._push(seconds if seconds > 0.0 else 0.0, strand, strand.turn)
        self.hub.switch()
        if process.dead:
            raise Dead

    def _push(self, seconds: float, what: Strand | Callable[[], None], turn: int) -> None:
        self._number += 1
        heapq.heappush(self._heap, (self.now + seconds, self._number, what, turn))

    def run(self, until_seconds: float, over: Callable[[], bool]) -> bool:
        """Go on until it is over, or the time has come; return whether it is over. ``over`` is asked now and then."""
        heap, look_at = self._heap, self.now
        while heap and heap[0][0] <= until_seconds:
            if self.now >= look_at:
                if over():
                    return True
                look_at = self.now + 1.0
            self.now, _, what, turn = heapq.heappop(heap)
            if isinstance(what, Strand):
                self._switch(what, turn)
            else:
                what()
        return over()

    def _switch(self, strand: Strand, turn: int) -> None:
        if strand.dead or strand.turn != turn:
            return
        stalled = strand.process.stalled_until - self.now
        if stalled > 0:
            self._push(stalled + self.random.random() * 0.01, strand, turn)
            return
        self.turns += 1
        strand.switch()


class HostClock:
    """``ports.Clock`` of one machine, which may be wrong by ``skew_seconds``."""

    def __init__(self, scheduler: Scheduler, skew_seconds: float = 0.0) -> None:
        self._scheduler = scheduler
        self.skew_seconds = skew_seconds

    def now(self) -> float:
        return self._scheduler.now + self.skew_seconds

    def sleep(self, seconds: float) -> None:
        self._scheduler.pause(seconds)


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if event in DURABLE:
        strand = getcurrent()
        if isinstance(strand, Strand):
            strand.process.die(event)
    elif event == "time.sleep" and isinstance(getcurrent(), Strand):
        raise AssertionError(
            f"a strand sleeps for {arguments[0]} s by the wall's clock, and everybody else with it"
        )


def watch_disk() -> None:
    """Let processes die before what changes a folder. Once in an interpreter: a hook cannot be taken back."""
    global _watching
    if not _watching:
        sys.addaudithook(_audit)
        _watching = True


_watching = False
