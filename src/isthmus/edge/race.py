"""The first answer of several that are worked on at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Errand:
    """Something that is waited for elsewhere, and can be given up from another thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stop: Callable[[], None] = lambda: None
        self.given_up = False

    def stops_by(self, stop: Callable[[], None]) -> None:
        """Say how to stop it from now on; at once, if it was given up already. ``stop`` must not block."""
        with self._lock:
            self._stop = stop
            if self.given_up:
                stop()

    def give_up(self) -> None:
        """Stop it; giving up again does nothing."""
        with self._lock:
            if not self.given_up:
                self.given_up = True
                self._stop()


class Race(Generic[T]):
    """Takes the first answer; what comes later is dropped. ``over`` tells runners that nobody waits any more."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running = 0
        self.winner = ""
        self.answer: T | None = None
        self.errors: dict[str, Exception] = {}

    @property
    def over(self) -> bool:
        """Whether there is an answer."""
        return bool(self.winner)

    def start(self, name: str, run: Callable[[], T]) -> None:
        """Let a runner of that name begin in a thread of its own; what it raises is kept under its name.

        Where there is no room for another thread, that is what it raised.
        """
        with self._changed:
            self._running += 1
        try:
            threading.Thread(target=self._run, args=(name, run), name=f"split-{name}", daemon=True).start()
        except RuntimeError as error:
            self._end(name, None, error)

    def run(self, name: str, run: Callable[[], T]) -> None:
        """Let a runner of that name do its work in this thread."""
        with self._changed:
            self._running += 1
        self._run(name, run)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until there is an answer, or nobody is left to give one; return whether there is one."""
        with self._changed:
            self._changed.wait_for(lambda: self.over or not self._running, seconds)
            return self.over

    def _run(self, name: str, run: Callable[[], T]) -> None:
        try:
            answer = run()
        except Exception as error:
            self._end(name, None, error)
        else:
            self._end(name, answer, None)

    def _end(self, name: str, answer: T | None, error: Exception | None) -> None:
        with self._changed:
            self._running -= 1
            if error is not None:
                self.errors[name] = error
            elif not self.winner:
                self.winner, self.answer = name, answer
            self._changed.notify_all()
