"""What differs between two plans of one network: who runs what, what is sent, and what it is worth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import msgspec

from isthmus.errors import InvalidCase
from isthmus.model.slicing import SlicePlan, Transfer
from isthmus.model.units import format_bytes
from isthmus.planning.slicing.wording import amount, columns, duration, number, percent, shorten


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A figure that two plans have, in ``unit``. ``fraction``: of the old one; None where that is 0."""

    name: str
    unit: str
    old: float
    new: float
    by: float
    fraction: float | None


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """Operators ``[start, end)`` that run elsewhere: from the devices ``old`` to the devices ``new``."""

    start: int
    end: int
    old: tuple[str, ...]
    new: tuple[str, ...]


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """A device that keeps working, with another part of its slice's samples."""

    device: str
    old: float
    new: float


class Flow(msgspec.Struct, frozen=True, kw_only=True):
    """All that goes from one device, or devices of one slice, to another; for each sample."""

    size_bytes: int
    seconds: float
    tensors: tuple[str, ...]
    transports: tuple[str, ...]
    dtypes: tuple[str, ...] = ()


class FlowChange(msgspec.Struct, frozen=True, kw_only=True):
    """``old`` or ``new`` is None where nothing goes that way."""

    source: str
    target: str
    old: Flow | None
    new: Flow | None


class PlanDiff(msgspec.Struct, frozen=True, kw_only=True):
    """From an old plan to a new one. ``value`` and ``bound`` are None where the objectives differ."""

    schema: str = "isthmus/slices-diff/1"
    network: str
    old_objective: str
    new_objective: str
    value: Change | None
    bound: Change | None
    predictions: tuple[Change, ...]
    moves: tuple[Move, ...]
    shares: tuple[Share, ...]
    gained: tuple[str, ...]
    lost: tuple[str, ...]
    transfers: tuple[FlowChange, ...]

    @property
    def same_places(self) -> bool:
        """Whether every operator runs where it ran, on the same share of the samples."""
        return not (self.moves or self.shares)


def diff(old: SlicePlan, new: SlicePlan) -> PlanDiff:
    """Compare two plans of one network.

    Raises:
        InvalidCase: they are of different networks.
    """
    _same_network(old, new)
    same = old.objective == new.objective
    before, after = _devices(old), _devices(new)
    return PlanDiff(
        network=new.network,
        old_objective=old.objective,
        new_objective=new.objective,
        value=_change(old.objective, new.unit, old.value, new.value) if same else None,
        bound=_change("bound", new.unit, old.bound, new.bound) if same else None,
        predictions=tuple(_predictions(old, new)),
        moves=tuple(_moves(old, new)),
        shares=tuple(
            Share(device=name, old=before[name], new=after[name])
            for name in before
            if name in after and abs(before[name] - after[name]) > 1e-9
        ),
        gained=tuple(name for name in after if name not in before),
        lost=tuple(name for name in before if name not in after),
        transfers=tuple(_flow_changes(old, new)),
    )


def _same_network(old: SlicePlan, new: SlicePlan) -> None:
    told = old.network_digest and new.network_digest
    same = old.network_digest == new.network_digest if told else old.network == new.network
    if not same:
        digests = f" (digests {old.network_digest[:12]} and {new.network_digest[:12]})" if told else ""
        raise InvalidCase(
            f"two plans of one network can be compared; these are of {old.network} and {new.network}{digests}"
        )
    counts = len(_homes(old)), len(_homes(new))
    if counts[0] != counts[1]:
        raise InvalidCase(
            f"two plans of one network can be compared; {old.network} has {counts[0]} operators in the one "
            f"and {counts[1]} in the other"
        )


def _devices(plan: SlicePlan) -> dict[str, float]:
    """The devices that work, each with its share of the samples of its slice."""
    return {r.device: r.share for entry in plan.slices for r in entry.replicas}


def _homes(plan: SlicePlan) -> list[tuple[str, ...]]:
    """The devices of each operator."""
    found: dict[int, tuple[str, ...]] = {}
    for entry in plan.slices:
        names = tuple(r.device for r in entry.replicas)
        for start, end in entry.ranges:
            found.update(dict.fromkeys(range(start, end), names))
    return [found.get(v, ()) for v in range(max(found, default=-1) + 1)]


def _moves(old: SlicePlan, new: SlicePlan) -> Iterator[Move]:
    start = 0
    pairs = list(zip(_homes(old), _homes(new), strict=True))
    for v, pair in enumerate(pairs):
        if v + 1 < len(pairs) and pairs[v + 1] == pair:
            continue
        if set(pair[0]) != set(pair[1]):
            yield Move(start=start, end=v + 1, old=pair[0], new=pair[1])
        start = v + 1


def _change(name: str, unit: str, old: float, new: float) -> Change:
    return Change(
        name=name, unit=unit, old=old, new=new, by=new - old, fraction=(new - old) / old if old else None
    )


def _predictions(old: SlicePlan, new: SlicePlan) -> Iterator[Change]:
    for name, unit, field in (
        ("a request", "s", "latency_seconds"),
        ("rate", "samples/s", "samples_per_second"),
        ("price", "USD/1000 requests", "usd_per_thousand"),
        ("energy", "J/1000 requests", "joules_per_thousand"),
        ("a step", "s", "step_seconds"),
    ):
        before, after = getattr(old.prediction, field), getattr(new.prediction, field)
        if before is not None and after is not None and before != after:
            yield _change(name, unit, before, after)


def _flows(plan: SlicePlan) -> dict[tuple[str, str], Flow]:
    grouped: dict[tuple[str, str], list[Transfer]] = {}
    for entry in plan.transfers:
        ends = tuple(
            " + ".join(sorted(r.device for r in plan.slices[k].replicas))
            for k in (entry.source, entry.target)
        )
        grouped.setdefault((ends[0], ends[1]), []).append(entry)
    return {ends: _flow(entries) for ends, entries in grouped.items()}


def _flow(entries: Sequence[Transfer]) -> Flow:
    def distinct(of: Callable[[Transfer], Sequence[str]]) -> tuple[str, ...]:
        return tuple(sorted({name for entry in entries for name in of(entry) if name}))

    return Flow(
        size_bytes=sum(entry.size_bytes for entry in entries),
        seconds=sum(entry.seconds for entry in entries),
        tensors=distinct(lambda entry: entry.tensors),
        transports=distinct(lambda entry: (entry.transport,)),
        dtypes=distinct(lambda entry: (entry.dtype,)),
    )


def _flow_changes(old: SlicePlan, new: SlicePlan) -> Iterator[FlowChange]:
    before, after = _flows(old), _flows(new)
    for source, target in dict.fromkeys([*before, *after]):
        one, other = before.get((source, target)), after.get((source, target))
        if one != other:
            yield FlowChange(source=source, target=target, old=one, new=other)


def text(found: PlanDiff) -> str:
    """Return a difference for a person."""
    lines = [f"{found.network}: {_headline(found)}"]
    lines += [_figure(entry) for entry in (found.value, found.bound, *found.predictions) if entry is not None]
    if found.gained:
        lines.append(f"now used: {', '.join(found.gained)}")
    if found.lost:
        lines.append(f"no longer used: {', '.join(found.lost)}")
    lines += [
        f"share of {entry.device}: {percent(entry.old)} -> {percent(entry.new)}" for entry in found.shares
    ]
    if found.moves:
        lines.append("operators moved:")
        rows = [(f"  [{m.start},{m.end})", " + ".join(m.old), "->", " + ".join(m.new)) for m in found.moves]
        lines += columns(rows)
    if found.transfers:
        lines.append("transfers changed:")
        rows = [
            (f"  {entry.source} -> {entry.target}", _flow_text(entry.old), "->", _flow_text(entry.new))
            for entry in found.transfers
        ]
        lines += columns(rows)
    return "\n".join(lines)


def _headline(found: PlanDiff) -> str:
    if found.old_objective != found.new_objective:
        return (
            f"planned for {found.old_objective}, now for {found.new_objective}: their values do not compare"
        )
    count = sum(entry.end - entry.start for entry in found.moves)
    return f"{count} operators moved" if count else "nothing moved"


def _figure(entry: Change) -> str:
    was, now = amount(entry.old, entry.unit), amount(entry.new, entry.unit)
    if entry.old == entry.new:
        return f"{entry.name}: {now}, as before"
    sign = "+" if entry.by > 0 else "-"
    relative = "" if entry.fraction is None else f", {sign}{percent(abs(entry.fraction))}"
    return f"{entry.name}: {was} -> {now} ({sign}{number(abs(entry.by))}{relative})"


def _flow_text(flow: Flow | None) -> str:
    if flow is None:
        return "nothing"
    names = shorten(", ".join(flow.tensors), 32)
    how = "/".join((*flow.transports, *flow.dtypes))
    return f"{format_bytes(flow.size_bytes)} in {duration(flow.seconds)} {how} ({names})"
