"""A plan as text: a table that explains it, and one line that parses back."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from isthmus.errors import InvalidDocument
from isthmus.model.slicing import UNITS, Objective, Slice, SlicePlan
from isthmus.model.units import format_bytes
from isthmus.planning.slicing import wording
from isthmus.planning.slicing.timeline import Bottleneck, bottleneck
from isthmus.planning.slicing.wording import amount, duration, number, percent, shorten

MARK = "<-- bottleneck"
DIGITS = 6
"""Significant digits of a summary's figures."""


def table(plan: SlicePlan) -> str:
    """Return the plan for a person: slices, transfers, the value with its bound, and every reason."""
    parts = (_head(plan), _slices(plan), _transfers(plan), _verdict(plan), _devices(plan))
    return "\n\n".join("\n".join(part) for part in map(list, parts) if part)


def _head(plan: SlicePlan) -> Iterator[str]:
    yield f"{plan.network}, batch {plan.batch}: {plan.objective} {amount(plan.value, plan.unit)}"
    proof = "exact" if plan.exact else "not exact"
    solved = f"by {plan.method} in {duration(plan.solve_seconds)}"
    yield f"bound {amount(plan.bound, plan.unit)}, gap {percent(plan.gap)}, {proof}; {solved}"
    if plan.certificate:
        yield f"proof: {plan.certificate}"
    if plan.given_up:
        yield f"given up: {plan.given_up}"


def _slices(plan: SlicePlan) -> Iterator[str]:
    slowest = bottleneck(plan)
    rows = [("SLICE", "LAYERS", "OPERATORS", "DEVICE", "SHARE", "COMPUTE", "BUSY", "MEMORY", "")]
    for k, entry in enumerate(plan.slices):
        for i, replica in enumerate(entry.replicas):
            whole = (str(k), wording.ranges(entry) or "-", _operators(entry)) if i == 0 else ("", "", "")
            own = (
                replica.device,
                percent(replica.share),
                duration(entry.compute_seconds),
                duration(replica.busy_seconds),
                wording.memory(replica.memory_bytes, replica.capacity_bytes),
            )
            rows.append((*whole, *own, _mark(slowest, k, replica.device)))
    yield from wording.columns(rows, right=frozenset({4, 5, 6}))


def _operators(entry: Slice) -> str:
    names = [shorten(name, 28) for name in (entry.first, entry.last) if name]
    return " .. ".join(dict.fromkeys(names)) or "-"


def _mark(slowest: Bottleneck | None, k: int, device: str) -> str:
    found = slowest is not None and (slowest.slice, slowest.device) == (k, device)
    return MARK if found else ""


def _transfers(plan: SlicePlan) -> Iterator[str]:
    slowest = bottleneck(plan)
    rows = [("TRANSFER", "FROM", "TO", "TENSORS", "SIZE", "TIME", "BY", "AS", "R2", "")]
    for k, entry in enumerate(plan.transfers):
        rows.append(
            (
                f"{entry.source} -> {entry.target}",
                wording.devices(plan.slices[entry.source]),
                wording.devices(plan.slices[entry.target]),
                wording.listed(entry.tensors, most=2, width=28) or "-",
                format_bytes(entry.size_bytes),
                duration(entry.seconds),
                entry.transport,
                entry.dtype or "as it is",
                "-" if entry.leakage_r2 is None else f"{entry.leakage_r2:.3f}",
                MARK if slowest is not None and slowest.transfer == k else "",
            )
        )
    if len(rows) > 1:
        yield from wording.columns(rows, right=frozenset({4, 5, 8}))
    else:
        yield "nothing is transferred"


def _verdict(plan: SlicePlan) -> Iterator[str]:
    yield f"predicted: {predicted(plan)}"
    yield pays(plan)
    if plan.alternatives:
        yield "all of it on one device:"
        rows = [
            (
                f"  {entry.device}",
                f"cannot: {entry.reason}" if entry.value is None else amount(entry.value, plan.unit),
            )
            for entry in plan.alternatives
        ]
        yield from wording.columns(rows)


def predicted(plan: SlicePlan) -> str:
    """Return what the plan predicts, whatever its objective was, in one line."""
    found = plan.prediction
    parts = [
        f"a request in {duration(found.latency_seconds)}",
        f"{number(found.samples_per_second)} samples/s",
    ]
    if found.usd_per_thousand is not None:
        parts.append(f"${number(found.usd_per_thousand)} per 1,000 requests")
    if found.joules_per_thousand is not None:
        parts.append(f"{number(found.joules_per_thousand)} J per 1,000 requests")
    if found.step_seconds is not None:
        parts.append(f"a step of training in {duration(found.step_seconds)}")
    return ", ".join(parts)


def pays(plan: SlicePlan) -> str:
    """Return the line that says whether splitting pays, with both figures."""
    able = [(entry.value, entry.device) for entry in plan.alternatives if entry.value is not None]
    more = plan.objective in wording.BETTER_IS_MORE
    single = (max if more else min)(able, default=None, key=lambda entry: entry[0])
    own = amount(plan.value, plan.unit)
    if not plan.split:
        if plan.best_split is not None and plan.best_split.value is not None:
            other = f"{amount(plan.best_split.value, plan.unit)} for the best split, {plan.best_split.device}"
            return f"splitting does not pay: {own} on {_alone(plan)} alone, against {other}"
        return f"splitting does not pay: nothing better than {own} on {_alone(plan)} alone was found"
    if single is None:
        return f"splitting is needed: no device alone can run all of it; split it has {own}"
    value, device = single
    best = f"{amount(value, plan.unit)} on {device}, the best single device"
    if not wording.better(plan, plan.value, value):
        return f"splitting does not pay: {own} split, against {best}"
    times = plan.value / value if more else value / plan.value if plan.value else float("inf")
    return f"splitting pays: {own}, against {best} ({number(times, 3)} times)"


def _alone(plan: SlicePlan) -> str:
    return next((entry for entry in plan.slices if entry.works), plan.slices[0]).replicas[0].device


def _devices(plan: SlicePlan) -> Iterator[str]:
    rows = [(f"  {r.device}", "used" if r.used else "not used", r.reason) for r in plan.reasons]
    if rows:
        yield "why each device is used or not:"
        yield from wording.columns(rows)


class Part(msgspec.Struct, frozen=True):
    """A slice in a summary. ``devices``: each with its share of the samples."""

    devices: tuple[tuple[str, float], ...]
    ranges: tuple[tuple[int, int], ...]


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What a summary's line holds; figures have six significant digits. ``gap`` as a fraction."""

    parts: tuple[Part, ...]
    objective: Objective
    value: float
    bound: float
    gap: float
    exact: bool
    method: str


def summarise(plan: SlicePlan) -> Summary:
    """Return what :func:`summary` writes of a plan."""
    parts = tuple(
        Part(tuple((r.device, _rounded(r.share)) for r in entry.replicas), entry.ranges)
        for entry in plan.slices
    )
    return Summary(
        parts=parts,
        objective=plan.objective,
        value=_rounded(plan.value),
        bound=_rounded(plan.bound),
        gap=0.0 if plan.exact else _rounded(plan.gap),
        exact=plan.exact,
        method=plan.method,
    )


def summary(plan: SlicePlan) -> str:
    """Return one line for logs and golden tests, which :func:`parse_summary` reads back::

    rig-1[0,12) -> lambda[12,40)  latency 0.0123 s (bound 0.0123, exact, minimum cut)
    rig-1*0.6+rig-2*0.4[0,9)  throughput 81.3 samples/s (bound 83, gap 0.0209, CP-SAT)
    """
    found = summarise(plan)
    slices = " -> ".join(
        "+".join(name if share == 1 else f"{name}*{share!r}" for name, share in part.devices)
        + ("".join(f"[{start},{end})" for start, end in part.ranges) or "[)")
        for part in found.parts
    )
    proof = "exact" if found.exact else f"gap {found.gap!r}"
    return (
        f"{slices}  {found.objective} {_plain(found.value)} {plan.unit} "
        f"(bound {_plain(found.bound)}, {proof}, {found.method})"
    )


LINE = re.compile(
    r"(?P<slices>.+\))  (?P<objective>\w+) (?P<value>\S+) (?P<unit>.+?) "
    r"\(bound (?P<bound>[^ ,]+), (?:exact|gap (?P<gap>[^ ,]+)), (?P<method>.*)\)"
)
PART = re.compile(r"(?P<devices>[^\[\]]+)(?P<ranges>(?:\[\d+,\d+\))+|\[\))")


def parse_summary(line: str) -> Summary:
    """Read a line that :func:`summary` wrote.

    Raises:
        InvalidDocument: it is none.
    """
    found = LINE.fullmatch(line.strip())
    if found is None or UNITS.get(found["objective"]) != found["unit"]:
        raise InvalidDocument(
            f"needs a line such as `a[0,9)  latency 0.1 s (bound 0.1, exact, …)`; has {line!r}"
        )
    try:
        return Summary(
            parts=tuple(_part(text) for text in found["slices"].split(" -> ")),
            objective=msgspec.convert(found["objective"], Objective),
            value=float(found["value"]),
            bound=float(found["bound"]),
            gap=float(found["gap"] or 0.0),
            exact=found["gap"] is None,
            method=found["method"],
        )
    except ValueError as error:
        raise InvalidDocument(f"the summary {line!r} cannot be used: {error}") from error


def _part(text: str) -> Part:
    found = PART.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no slice")
    devices = []
    for entry in found["devices"].split("+"):
        name, _, share = entry.partition("*")
        devices.append((name, float(share or 1)))
    spans = re.findall(r"\[(\d+),(\d+)\)", found["ranges"])
    return Part(tuple(devices), tuple((int(start), int(end)) for start, end in spans))


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _plain(value: float) -> str:
    return f"{value:.{DIGITS}g}"
