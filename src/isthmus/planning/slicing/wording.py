"""How a plan's figures are worded: in a table, a picture and a difference alike."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from isthmus.model.slicing import Objective, Slice, SlicePlan
from isthmus.model.units import format_bytes

BETTER_IS_MORE: frozenset[Objective] = frozenset({"throughput"})
PIPELINED: frozenset[Objective] = frozenset({"throughput", "step"})
"""Objectives under which every device works at once, each on another sample."""


def number(value: float, digits: int = 4) -> str:
    """Return ``value`` with ``digits`` significant digits, and never more than needed: ``0.0123``,
    ``12,345``."""
    if not math.isfinite(value):
        return "unlimited" if value > 0 else str(value)
    if value and not 1e-4 <= abs(value) < 10**digits:
        return f"{value:,.0f}" if 10**digits <= abs(value) < 1e9 else f"{value:.{digits - 1}e}"
    return f"{value:.{digits}g}"


def duration(seconds: float) -> str:
    """Return seconds with three significant digits in the unit that suits: ``4.20 ms``, ``1.55 s``."""
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        scaled = seconds * scale
        # 999.95 would be written as 1000: it belongs to the next larger unit, where there is one.
        if scaled >= 0.9995 or unit == "µs":
            break
    if scaled >= 999.5:
        return f"{scaled:,.0f} {unit}"
    decimals = 2 if scaled < 9.995 else 1 if scaled < 99.95 else 0
    return f"{scaled:.{decimals}f} {unit}" if scaled else "0 s"


def amount(value: float, unit: str) -> str:
    """Return a value in a plan's unit, as people write it: ``0.0123 s``, ``$0.0042 per 1,000 requests``."""
    if unit == "USD/1000 requests":
        return f"${number(value)} per 1,000 requests"
    if unit == "J/1000 requests":
        return f"{number(value)} J per 1,000 requests"
    return f"{number(value)} {unit}"


def percent(fraction: float) -> str:
    """Return a fraction as ``1.7%``; what rounding made is told as such."""
    if 0 < abs(fraction) < 1e-5:
        return "under 0.001%"
    return f"{number(100 * fraction, 3)}%" if math.isfinite(fraction) else "unlimited"


def memory(needed_bytes: int, capacity_bytes: int | None) -> str:
    """Return ``1.2 GiB of 4.0 GiB``, or the need alone where no limit is known."""
    need = format_bytes(needed_bytes)
    return need if capacity_bytes is None else f"{need} of {format_bytes(capacity_bytes)}"


def ranges(entry: Slice) -> str:
    """Return a slice's layers: ``[0,12) [20,24)``; empty where it only hands on what it holds."""
    return " ".join(f"[{start},{end})" for start, end in entry.ranges if start < end)


def devices(entry: Slice) -> str:
    """Return the names of a slice's devices: ``rig-1 + rig-2``."""
    return " + ".join(replica.device for replica in entry.replicas)


def shorten(text: str, width: int) -> str:
    """Return ``text`` with its middle left out where it is longer than ``width``: both ends tell most."""
    if len(text) <= width:
        return text
    head = (width - 1) // 2
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"


def listed(names: Sequence[str], most: int, width: int) -> str:
    """Return the first names, and how many more there are."""
    shown = ", ".join(shorten(name, width) for name in names[:most])
    return f"{shown} +{len(names) - most} more" if len(names) > most else shown


def columns(rows: Iterable[Sequence[str]], *, right: frozenset[int] = frozenset()) -> list[str]:
    """Return rows as aligned lines, two blanks between columns; those numbered in ``right`` end together."""
    cells = [tuple(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]


def better(plan: SlicePlan, one: float, other: float) -> bool:
    """Whether ``one`` is better than ``other`` by the plan's objective."""
    return one > other if plan.objective in BETTER_IS_MORE else one < other
