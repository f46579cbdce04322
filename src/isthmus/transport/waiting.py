"""Waiting for an object that somebody else will write, at a ``Pace``."""

from __future__ import annotations

import time

from isthmus.transport.pace import Pace


class Waiting:
    """When to look again for what somebody else will write, over several calls that each wait for a while. Nobody
    waits before the first of them."""

    def __init__(self) -> None:
        self._pace = Pace()
        self._since: float | None = None
        self._due = 0.0

    @property
    def seconds(self) -> float:
        """How long it is waited for already."""
        since = self._since  # once: another thread may begin anew meanwhile
        return 0.0 if since is None else time.monotonic() - since

    def rest(self, deadline: float) -> bool:
        """Sleep until the next look, or the deadline if that is before; return whether to look."""
        if self._since is None:
            self._since = time.monotonic()
        time.sleep(max(0.0, min(self._due, deadline) - time.monotonic()))
        if time.monotonic() < self._due:
            return False
        self._due = time.monotonic() + self._pace.spacing(self.seconds)
        return True

    def found(self) -> None:
        """Learn from a look that found it; the next is another wait."""
        self._pace.found(self.seconds)
        self.begin()

    def begin(self) -> None:
        """Let the next wait begin with a look."""
        self._since, self._due = None, 0.0
