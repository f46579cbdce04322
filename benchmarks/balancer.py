"""balancer: where requests run on replayed links, against an oracle that knows what they will carry.

Four recordings of mobile links with fading and outages (``benchmarks/traces``) are replayed against a core device with
one processor, in virtual time, event by event (``benchmarks/balancing``). MobileNet-v2 and ResNet-18 are cut
where one tensor crosses; their operations and bytes are read from the ONNX files, and divided by *assumed* rates: a
core device of 0.3 to 6 GFLOP/s, a function of 40 (about what one vCPU of a server does). Raw inputs are bytes a pixel,
activations float32 or int8. The link's latency is known, as a small request measures it; its rate is not. Requests are
a Poisson process that would keep the processor busy for 10% or 30% of the time if all ran there. Half of the cases have
a policy that keeps raw inputs on the device.

Counted are the cases in which the best fixed way (all here, all there, or always the same cut) takes at least 1.3 times
as long as the oracle. It knows at each arrival when each way would end, and takes the first; where a fixed way is
better over all, it is that one. ``ours``, ``reference``: mean latency over all requests, ours and the oracle's.

``worst_ratio``: of a case. ``left_out_mean_of_ratios``: of cases that are not counted. ``bound_ratio``: over the mean
of what each request would take with device and link for itself, which no way of running them can beat.
``bytes_in_vain``: the share of bytes sent whose answer was not needed. ``busy``, ``busy_all_local``: the share of time
that the processor worked, ours and if all ran there. ``unanswered``, ``raw_sent_forbidden``: in all cases.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.balancing.compare import Outcome, compare
from benchmarks.balancing.request import Network
from benchmarks.balancing.trace import Trace, recorded
from benchmarks.networks import write
from benchmarks.report import report
from isthmus.frameworks.onnx.cut import Cutter
from isthmus.frameworks.onnx.profile import from_graph

CLOUD_FLOPS = 40e9
ENVELOPE_BYTES = 4000
ROUNDS, SEEDS, LOADS = 4, (1, 2, 3), (0.1, 0.3)
WORTH_IT = 1.3


@dataclass(frozen=True)
class Shape:
    """Operations of a sample, and at each cut the share before it and the bytes of its one tensor, as float32."""

    name: str
    flops: float
    raw_bytes: int
    shares: tuple[float, ...]
    cut_bytes: tuple[int, ...]

    def network(self, device_flops: float, *, int8: bool, raw_may_leave: bool) -> Network:
        """Return it on a device of that rate."""
        ends = (0.0, *self.shares, 1.0)
        seconds = self.flops / device_flops
        sizes = (self.raw_bytes // 4, *(size // (4 if int8 else 1) for size in self.cut_bytes))
        form = "int8" if int8 else "float32"
        kept = "" if raw_may_leave else ", raw inputs stay"
        return Network(
            f"{self.name}, {form}, {device_flops / 1e9:g} GFLOP/s{kept}",
            tuple((end - start) * seconds for start, end in itertools.pairwise(ends)),
            tuple((1 - start) * self.flops / CLOUD_FLOPS for start in ends[:-1]),
            tuple(size + ENVELOPE_BYTES for size in sizes),
            raw_may_leave,
        )


def shape(name: str, wanted: tuple[float, ...]) -> Shape:
    """Read a network; its cuts are those of one tensor that are nearest to these shares of its operations."""
    with tempfile.TemporaryDirectory() as folder:
        profile = from_graph(Cutter(write(name, Path(folder))).graph, name)
    sizes = {tensor.name: tensor.bytes_at(1) for tensor in profile.tensors}
    made = {name: at for at, entry in enumerate(profile.operators) for name in entry.outputs}
    read = {name: at for at, entry in enumerate(profile.operators) for name in entry.inputs}
    total, done, cuts = sum(entry.flops for entry in profile.operators), 0.0, []
    for at, entry in enumerate(profile.operators[:-1]):
        done += entry.flops
        crossing = [name for name, maker in made.items() if maker <= at < read.get(name, -1)]
        if len(crossing) == 1 and not any(read.get(name, -1) > at for name in profile.inputs):
            cuts.append((done / total, sizes[crossing[0]]))
    # Of cuts at about the same place, the one of fewest bytes.
    chosen = [min(cuts, key=lambda cut: (abs(cut[0] - share) > 0.06, cut[1])) for share in wanted]
    shares, cut_bytes = zip(*chosen, strict=True)
    return Shape(name, total, sum(sizes[name] for name in profile.inputs), shares, cut_bytes)


def cases() -> Iterator[tuple[Trace, Network]]:
    """Return every trace with every network."""
    shapes = (
        (shape("mobilenet_v2", (0.3, 0.4, 0.75)), (0.3e9, 0.6e9, 1.2e9)),
        (shape("resnet_18", (0.42, 0.65, 0.87)), (3e9, 6e9)),
    )
    for trace in recorded():
        for found, rates in shapes:
            for rate in rates:
                for int8 in (False, True):
                    for raw_may_leave in (True, False):
                        yield trace, found.network(rate, int8=int8, raw_may_leave=raw_may_leave)


def main() -> None:
    """Run all cases; count those in which a fixed way does not do."""
    counted: list[Outcome] = []
    left_out: list[Outcome] = []
    for trace, network in cases():
        for load in LOADS:
            for seed in SEEDS:
                found = compare(network, trace, load, seed, ROUNDS)
                if found.fixed < WORTH_IT * found.oracle:
                    left_out.append(found)
                    continue
                counted.append(found)
                print(found.line(), flush=True)
    requests = sum(found.requests for found in counted)

    def over_all(name: str) -> float:
        return sum(getattr(found, name) * found.requests for found in counted) / requests

    ours, oracle = over_all("ours"), over_all("oracle")
    report(
        "balancer",
        ours=ours * 1e3,
        reference=oracle * 1e3,
        unit="ms of a request, mean",
        p99_ratio=round(over_all("p99") / over_all("oracle_p99"), 4),
        mean_of_ratios=round(statistics.mean(found.ratio for found in counted), 4),
        worst_ratio=round(max(found.ratio for found in counted), 4),
        bound_ratio=round(ours / over_all("bound"), 4),
        fixed_ratio=round(over_all("fixed") / oracle, 4),
        unanswered=sum(found.unanswered for found in [*counted, *left_out]),
        raw_sent_forbidden=sum(found.raw_sent_forbidden for found in [*counted, *left_out]),
        bytes_in_vain=round(over_all("wasted"), 4),
        busy=round(over_all("busy"), 4),
        busy_all_local=round(over_all("load"), 4),
        requests=requests,
        cases=len(counted),
        cases_left_out=len(left_out),
        left_out_mean_of_ratios=round(statistics.mean(found.ratio for found in left_out), 4),
    )


if __name__ == "__main__":
    main()
