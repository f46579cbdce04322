"""How calls of one version of a function ended, as Lambda counts them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

import msgspec

MINUTE_SECONDS = 60


class Calls(msgspec.Struct, frozen=True):
    """``errors`` of ``requests`` ended in an exception, a timeout or the end of their process."""

    requests: int
    errors: int

    @property
    def rate(self) -> float:
        """The share that failed (0..1); 0 where there was none."""
        return self.errors / self.requests if self.requests else 0.0

    def without(self, good: int) -> Calls:
        """Return these calls without ``good`` ones, none of which failed."""
        return Calls(max(self.requests - good, self.errors), self.errors)


class Minute(msgspec.Struct, frozen=True):
    """The calls that began in the minute from ``begin`` (UTC seconds, a whole minute)."""

    begin: int
    calls: Calls

    @classmethod
    def total(cls: type[Self], minutes: Iterable[Minute]) -> Calls:
        """Return the calls of all the minutes."""
        found = [minute.calls for minute in minutes]
        return Calls(sum(calls.requests for calls in found), sum(calls.errors for calls in found))
