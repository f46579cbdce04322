"""Bandwidth over time: recorded traces from ``benchmarks/traces``, and what they say of a transfer."""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "traces"


@dataclass
class Trace:
    """``steps``: (seconds, bytes per second); after its end it begins anew."""

    name: str
    steps: list[tuple[float, float]]
    latency_seconds: float
    starts: list[float] = field(init=False)
    sent: list[float] = field(init=False)

    def __post_init__(self) -> None:
        self.starts, self.sent = [0.0], [0.0]
        for seconds, rate in self.steps:
            self.starts.append(self.starts[-1] + seconds)
            self.sent.append(self.sent[-1] + seconds * rate)

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.starts[-1]

    def moved(self, now: float) -> float:
        """Return the bytes that a busy link has sent by ``now``."""
        rounds, rest = divmod(now, self.seconds)
        at = min(bisect.bisect_right(self.starts, rest) - 1, len(self.steps) - 1)
        return rounds * self.sent[-1] + self.sent[at] + (rest - self.starts[at]) * self.steps[at][1]

    def finishes(self, now: float, size_bytes: float) -> float:
        """Return when ``size_bytes`` are through that begin at ``now``."""
        rounds, rest = divmod(self.moved(now) + size_bytes, self.sent[-1])
        at = min(bisect.bisect_left(self.sent, rest, 1) - 1, len(self.steps) - 1)
        rate = self.steps[at][1]
        within = (rest - self.sent[at]) / rate if rate else 0.0
        return rounds * self.seconds + self.starts[at] + within


def read(path: Path) -> Trace:
    """Read a trace: comments, of which the first ends with its latency, and ``milliseconds:kbit/s``."""
    lines = path.read_text().splitlines()
    latency = float(lines[0].rsplit(";", 1)[1].split()[0]) / 1000
    pairs = (word.split(":") for line in lines if not line.startswith("#") for word in line.split())
    return Trace(path.stem, [(int(ms) / 1000, int(kbps) * 125.0) for ms, kbps in pairs], latency)


def recorded() -> Iterable[Trace]:
    """Return all that were recorded."""
    return [read(path) for path in sorted(FOLDER.glob("*.txt"))]
