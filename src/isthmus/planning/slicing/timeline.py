"""A plan in time: when each slice computes and each transfer goes, and which of them holds up the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from isthmus.model.slicing import Slice, SlicePlan
from isthmus.planning.slicing import wording
from isthmus.planning.slicing.wording import PIPELINED


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """What takes longest: a slice on a device, or a transfer; the other number is None."""

    seconds: float
    slice: int | None = None
    device: str = ""
    transfer: int | None = None


@dataclass(frozen=True, slots=True)
class Bar:
    """A device at work for one slice, ``[start, end)`` in seconds. ``exchange``: it sends and receives."""

    slice: int
    device: str
    start: float
    end: float
    kind: Literal["compute", "exchange"] = "compute"
    layers: str = ""


@dataclass(frozen=True, slots=True)
class Crossing:
    """A transfer on its way, ``[start, end)`` in seconds."""

    transfer: int
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Timeline:
    """``end``: seconds of a request run serially, or of one period. ``estimated``: a slice's seconds were
    spread over its ranges by their number of operators, for want of each range's own. ``rest``: seconds of
    ``end`` that no slice or listed transfer takes: the way of the results back to the source."""

    bars: tuple[Bar, ...]
    crossings: tuple[Crossing, ...]
    end: float
    estimated: bool = False
    rest: float = 0.0


def bottleneck(plan: SlicePlan) -> Bottleneck | None:
    """Return what the plan waits for: of a pipeline the busiest device, of a serial request the longest
    slice or transfer. None where no time is known; of several alike, the first."""
    if plan.objective in PIPELINED:
        found = [
            Bottleneck(replica.busy_seconds, slice=k, device=replica.device)
            for k, entry in enumerate(plan.slices)
            for replica in entry.replicas
        ]
    else:
        found = [
            Bottleneck(entry.compute_seconds, slice=k, device=entry.replicas[0].device)
            for k, entry in enumerate(plan.slices)
        ]
        found += [Bottleneck(entry.seconds, transfer=k) for k, entry in enumerate(plan.transfers)]
    longest = max(found, key=lambda entry: entry.seconds, default=None)
    return longest if longest is not None and longest.seconds > 0 else None


def lanes(plan: SlicePlan) -> tuple[str, ...]:
    """Return the devices that work, in the order in which the data reaches them."""
    first = sorted(plan.slices, key=lambda entry: entry.ranges[:1] or ((-1, -1),))
    return tuple(dict.fromkeys(replica.device for entry in first for replica in entry.replicas))


def timeline(plan: SlicePlan) -> Timeline:
    """Return one request, one thing after another; or one period of a pipeline, all devices at once."""
    return _period(plan) if plan.objective in PIPELINED else _serial(plan)


def _period(plan: SlicePlan) -> Timeline:
    bars = []
    for k, entry in enumerate(plan.slices):
        for replica in entry.replicas:
            # Busy seconds hold a replica's share already; computing is of a whole sample.
            computing = min(entry.compute_seconds * replica.share, replica.busy_seconds)
            if plan.objective == "step":
                computing = replica.busy_seconds
            busy, layers = replica.busy_seconds, wording.ranges(entry)
            if computing > 0 or not busy:
                bars.append(Bar(k, replica.device, 0.0, computing, layers=layers))
            if busy > computing:
                bars.append(Bar(k, replica.device, computing, busy, "exchange", layers))
    longest = max((bar.end for bar in bars), default=0.0)
    return Timeline(tuple(bars), (), max(longest, plan.value) if plan.objective == "step" else longest)


def _serial(plan: SlicePlan) -> Timeline:
    """Ranges run in the order of the network. What a slice receives goes just before its first range that
    stands after one of the sender's; a transfer without such a range goes last (results that go home)."""
    bars: list[Bar] = []
    crossings: list[Crossing] = []
    waiting = dict(enumerate(plan.transfers))
    seen: set[int] = {k for k, entry in enumerate(plan.slices) if not entry.works}
    now, estimated = 0.0, False
    pieces = sorted(
        (span, k, i)
        for k, entry in enumerate(plan.slices)
        for i, span in enumerate(entry.ranges)
        if span[0] < span[1]
    )

    def send(target: int | None) -> None:
        nonlocal now
        for number, entry in list(waiting.items()):
            if target is None or (entry.target == target and entry.source in seen):
                crossings.append(Crossing(number, now, now + entry.seconds))
                now += entry.seconds
                del waiting[number]

    for (start, end), k, i in pieces:
        send(k)
        entry = plan.slices[k]
        seconds, guessed = _range_seconds(entry, i)
        estimated |= guessed
        bars.append(Bar(k, entry.replicas[0].device, now, now + seconds, layers=f"[{start},{end})"))
        now += seconds
        seen.add(k)
    send(None)
    whole = max(now, plan.value) if plan.objective == "latency" else now
    rest = whole - now if whole - now > 1e-6 * whole else 0.0
    return Timeline(tuple(bars), tuple(crossings), whole, estimated, rest)


def _range_seconds(entry: Slice, index: int) -> tuple[float, bool]:
    if len(entry.range_seconds) == len(entry.ranges):
        return entry.range_seconds[index], False
    count = sum(end - start for start, end in entry.ranges)
    start, end = entry.ranges[index]
    return entry.compute_seconds * (end - start) / count, len(entry.ranges) > 1
