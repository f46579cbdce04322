"""What our own requests tell about the way to the cloud: pure, ``now`` is any monotonic clock's seconds.

Rates of a radio link scatter over factors, so it is the logarithm of the seconds that a byte takes that is averaged. A
link that was not heard of for a while is more likely to be as usual than as it was last: the newest samples count for
less with their age. How far samples fall from what was expected is kept beside the mean, as retransmission timers do
(RFC 6298), and so is the share of requests that the link lost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

RECENT_SECONDS, USUAL_SECONDS = 2.0, 60.0
"""A sample that is so much older than the newest counts 1/e of it, for what is recent and what is usual."""
LOST_SHARE = 0.02
"""How much one request changes the share of lost ones."""
FIRST_REST_SECONDS, LONGEST_REST_SECONDS = 0.5, 8.0
_MOST_DEVIATION = 2.0


@dataclass
class _Mean:
    """A mean whose samples count 1/e after ``memory`` seconds; ``value`` stands until the first."""

    value: float
    memory: float
    weight: float = 0.0

    def take(self, sample: float, since: float) -> None:
        self.weight = 1 + self.weight * math.exp(-since / self.memory)
        self.value += (sample - self.value) / self.weight


@dataclass
class LinkEstimate:
    """``seconds_per_byte`` and ``latency_seconds`` are what to begin with, there and back together.

    ``deviation``: mean deviation of a sample's natural logarithm from what was expected. ``lost``: the share of
    requests of which nothing came back in time. ``heard_at``: of its last sample.
    """

    seconds_per_byte: float
    latency_seconds: float
    deviation: float = 0.5
    lost: float = LOST_SHARE
    heard_at: float = -math.inf
    failures: int = 0
    rests_until: float = -math.inf
    _recent: _Mean = field(init=False, repr=False)
    _usual: _Mean = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._recent = _Mean(math.log(self.seconds_per_byte), RECENT_SECONDS)
        self._usual = _Mean(math.log(self.seconds_per_byte), USUAL_SECONDS)

    def seconds_per_byte_at(self, now: float) -> float:
        """Return what a byte should take: as lately, and the longer ago that is, the more as usual."""
        fresh = math.exp(-max(now - self.heard_at, 0.0) / RECENT_SECONDS)
        return math.exp(self._usual.value + fresh * (self._recent.value - self._usual.value))

    def rests(self, now: float) -> bool:
        """Whether it failed, and is not to be tried again yet."""
        return now < self.rests_until

    def answered(self, seconds: float) -> None:
        """A request of next to no bytes took so many seconds: that is latency, and says nothing of the rate."""
        self.failures, self.rests_until = 0, -math.inf
        self.latency_seconds = seconds

    def moved(self, now: float, size_bytes: float, seconds: float) -> None:
        """So many bytes went there and back in so many seconds, the server's own left out."""
        self.failures, self.rests_until = 0, -math.inf
        self.lost -= LOST_SHARE * self.lost
        # What took less than the latency says that this is too long.
        self.latency_seconds = min(self.latency_seconds, 0.9 * seconds)
        self._learn(now, (seconds - self.latency_seconds) / size_bytes)

    def stalled(self, now: float, size_bytes: float, seconds: float) -> None:
        """Nothing came back in so many seconds, and it was not waited for any longer: a byte takes at least that."""
        self.lost += LOST_SHARE * (1 - self.lost)
        least = max(seconds - self.latency_seconds, 0.0) / size_bytes
        if least > self.seconds_per_byte_at(now):
            self._learn(now, least)

    def failed(self, now: float) -> None:
        """It broke, or could not be reached: rest, twice as long each time."""
        rest = min(FIRST_REST_SECONDS * 2**self.failures, LONGEST_REST_SECONDS)
        self.failures += 1
        self.rests_until = now + rest

    def _learn(self, now: float, seconds_per_byte: float) -> None:
        sample = math.log(max(seconds_per_byte, 1e-12))
        off = abs(sample - math.log(self.seconds_per_byte_at(now)))
        self.deviation += 0.25 * (min(off, _MOST_DEVIATION) - self.deviation)
        since = max(now - self.heard_at, 0.0)
        self._recent.take(sample, since)
        self._usual.take(sample, since)
        self.heard_at = now
