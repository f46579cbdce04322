"""When to look for an object that somebody else will write: pure, fed with what was seen.

Answers of one exchange take much the same time. So looks halve their way towards the time at which the soonest of the
last few came, are close around it, and grow apart as fast as it is overdue. The early ones find what comes sooner than
it used to: two sides that only aimed at each other's habits would keep each other's delays alive.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

CLOSE_SECONDS = 0.003
"""Between looks, at the least."""
REMOTE_SECONDS = 1.0
"""Between looks at what has not come for long, at the most: 3,600 an hour, which S3 takes a seventh of a cent for."""
REMEMBERED = 5


@dataclass
class Pace:
    """``waits``: seconds after which the looks left that found the last few messages."""

    close_seconds: float = CLOSE_SECONDS
    remote_seconds: float = REMOTE_SECONDS
    waits: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    def spacing(self, waited: float) -> float:
        """Return the seconds from a look that leaves after ``waited`` seconds to the next."""
        due = min(self.waits, default=0.0)
        ahead = due - self.close_seconds - waited
        wanted = ahead / 2 if ahead > self.close_seconds else waited - due
        return min(self.remote_seconds, max(self.close_seconds, wanted))

    def found(self, waited: float) -> None:
        """Learn from a look that left after ``waited`` seconds and found its message."""
        self.waits.append(waited)
