"""``CallFigures`` in memory."""

from __future__ import annotations

from collections import defaultdict

from isthmus.model.calls import MINUTE_SECONDS, Calls, Minute


class MemoryCallFigures:
    """``count`` says what Lambda would have sent."""

    def __init__(self) -> None:
        self._minutes: dict[tuple[str, str], dict[int, Calls]] = defaultdict(dict)

    def count(self, function: str, version: str, at: float, requests: int, errors: int = 0) -> None:
        """Let ``requests`` begin at ``at`` (UTC seconds), ``errors`` of which fail."""
        minutes, begin = self._minutes[function, version], int(at // MINUTE_SECONDS) * MINUTE_SECONDS
        before = minutes.get(begin, Calls(0, 0))
        minutes[begin] = Calls(before.requests + requests, before.errors + errors)

    def minutes(self, function: str, version: str, since: int, until: int) -> tuple[Minute, ...]:
        found = sorted(self._minutes[function, version].items())
        return tuple(Minute(begin, calls) for begin, calls in found if since <= begin < until)
