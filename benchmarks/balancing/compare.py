"""The same requests by the balancer, by an oracle, and by each fixed way."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from benchmarks.balancing.request import Network, alone, arrivals, foreseen
from benchmarks.balancing.trace import Trace
from benchmarks.balancing.world import World
from isthmus.edge.balancer import Balancer
from isthmus.edge.link import LinkEstimate

FIRST_SECONDS_PER_BYTE = 1 / 1.25e6
"""What a core device expects of a link of which it knows nothing."""


@dataclass(frozen=True)
class Outcome:
    """Mean latencies in seconds: the balancer's (``ours``), the oracle's, the best fixed way's, and of requests that
    have the system for themselves (``bound``). ``busy``: the share of time that the processor worked."""

    name: str
    load: float
    seed: int
    requests: int
    ours: float
    oracle: float
    fixed: float
    fixed_way: str
    bound: float
    p99: float
    oracle_p99: float
    unanswered: int
    raw_sent_forbidden: int
    wasted: float
    busy: float
    answered: dict[str, int]

    @property
    def ratio(self) -> float:
        """Ours over the oracle's."""
        return self.ours / self.oracle

    def line(self) -> str:
        """Return it in one line."""
        where = ", ".join(f"{name} {count}" for name, count in sorted(self.answered.items()))
        return (
            f"{self.name}, load {self.load:g}, seed {self.seed}: {self.ratio:.3f} of the oracle's "
            f"{self.oracle * 1e3:.0f} ms, p99 {self.p99 / self.oracle_p99:.2f}; best fixed ({self.fixed_way}) "
            f"{self.fixed / self.oracle:.2f}; {where}"
        )


def compare(network: Network, trace: Trace, load: float, seed: int, rounds: int) -> Outcome:
    """Run requests at a rate that would keep the processor busy for the share ``load`` of the time if all ran there,
    for so many ``rounds`` of the trace."""
    requests = list(arrivals(trace, load / sum(network.slices), seed, rounds))
    allowed = [option for option in network.options() if not option.refused]
    fixed = {option.name: foreseen(requests, [option], trace) for option in allowed}
    way = min(fixed, key=lambda name: fmean(fixed[name]))
    # Taking what ends first is not always best for those that come after.
    oracle = min(foreseen(requests, allowed, trace), fixed[way], key=fmean)
    world = World(network, trace, Balancer(LinkEstimate(FIRST_SECONDS_PER_BYTE, trace.latency_seconds)))
    ours = world.run(requests)
    return Outcome(
        name=f"{trace.name}, {network.name}",
        load=load,
        seed=seed,
        requests=len(requests),
        ours=fmean(ours),
        oracle=fmean(oracle),
        fixed=fmean(fixed[way]),
        fixed_way=way,
        bound=fmean(alone(request, allowed, trace) for request in requests),
        p99=p99(ours),
        oracle_p99=p99(oracle),
        unanswered=sum(request.answers != 1 for request in requests),
        raw_sent_forbidden=world.raw_sent_forbidden,
        wasted=world.wasted_bytes / max(world.uplink.sent_bytes, 1.0),
        busy=world.processor.busy / (rounds * trace.seconds),
        answered=dict(Counter(request.by for request in requests)),
    )


def p99(values: Sequence[float]) -> float:
    """Return the value that 1% are above."""
    return sorted(values)[max(math.ceil(0.99 * len(values)) - 1, 0)]
