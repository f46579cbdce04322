"""The system's clocks and threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class SystemClock:
    """UTC seconds since the epoch, and real waiting."""

    def now(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class SteadyClock(SystemClock):
    """Seconds of ``time.monotonic()``, as the deadlines of ``isthmus.transport`` have them: no clock that is put right
    moves them."""

    def now(self) -> float:
        return time.monotonic()


class SystemThreads:
    """Threads of the interpreter; one that still runs does not keep the process from ending."""

    def flag(self) -> threading.Event:
        return threading.Event()

    def start(self, name: str, run: Callable[[], None]) -> Callable[[], None]:
        thread = threading.Thread(target=run, name=name, daemon=True)
        thread.start()
        return thread.join
