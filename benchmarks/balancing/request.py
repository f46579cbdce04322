"""Networks, requests, and when a request ends that takes a given way: what oracle and fixed ways are made of."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.balancing.trace import Trace
from isthmus.edge.balancer import Option

CLOUD_NOISE = 0.1
"""Standard deviation of the logarithm of the cloud's seconds."""


@dataclass(frozen=True)
class Network:
    """``slices``: seconds of each on the device; ``cloud``: of what follows each cut, cut 0 being the whole;
    ``moved_bytes``: there and back at each cut."""

    name: str
    slices: tuple[float, ...]
    cloud: tuple[float, ...]
    moved_bytes: tuple[int, ...]
    raw_may_leave: bool = True

    def options(self) -> list[Option]:
        """Return what there is to choose from."""
        count, total = len(self.slices), sum(self.slices)
        return [Option("local", count, total), *(self._option(cut, total) for cut in range(count))]

    def _option(self, cut: int, total: float) -> Option:
        head = sum(self.slices[:cut])
        refused = "" if cut or self.raw_may_leave else "raw inputs may not leave"
        moved, there = self.moved_bytes[cut], self.cloud[cut]
        return Option("split" if cut else "cloud", cut, head, total - head, there, moved, refused=refused)


@dataclass(eq=False)
class Request:
    """``noise``: by which the cloud's seconds are multiplied. The rest is filled in while it runs: ``answers`` counts
    those that its caller got."""

    arrives: float
    noise: float
    option: Option | None = None
    asked_at: float = math.inf
    ends: float = math.inf
    by: str = ""
    answers: int = 0


def arrivals(trace: Trace, rate: float, seed: int, rounds: int) -> Iterator[Request]:
    """Yield a Poisson process of ``rate`` requests a second, for so many rounds of the trace."""
    source, now = random.Random(seed), 0.0
    while (now := now + source.expovariate(rate)) < rounds * trace.seconds:
        yield Request(now, source.lognormvariate(0, CLOUD_NOISE))


def finish(
    request: Request, option: Option, trace: Trace, processor: float, link: float
) -> tuple[float, float, float]:
    """Return when a request ends that takes this way, and from when on processor and link are free after it."""
    if option.kind == "local":
        ends = max(processor, request.arrives) + option.head_seconds
        return ends, ends, link
    headed, after = request.arrives, processor
    if option.cut:
        headed = after = max(processor, request.arrives) + option.head_seconds
    sent = trace.finishes(max(headed, link), option.moved_bytes)
    return sent + trace.latency_seconds + option.cloud_seconds * request.noise, after, sent


def alone(request: Request, options: Sequence[Option], trace: Trace) -> float:
    """Return the least latency that the request could have if processor and link were its own."""
    return (
        min(finish(request, option, trace, request.arrives, 0.0)[0] for option in options) - request.arrives
    )


def foreseen(requests: Sequence[Request], options: Sequence[Option], trace: Trace) -> list[float]:
    """Return the latencies of an oracle: it knows what the link will carry, and takes the way that ends first."""
    processor = link = 0.0
    found = []
    for request in requests:
        ways = [finish(request, option, trace, processor, link) for option in options]
        ends, processor, link = min(ways, key=lambda way: way[0])
        found.append(ends - request.arrives)
    return found
