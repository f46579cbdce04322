"""All cuts between two devices as a picture: bytes sent, latency, and as a colour how much of the input they tell."""

from __future__ import annotations

import math
from collections.abc import Sequence

from isthmus.model.units import format_bytes
from isthmus.planning.slicing.frontier import CutFigures, Frontier
from isthmus.planning.slicing.sheet import BLUE, GREY, INK, LIGHT, PALE, RED, Sheet, text_width, ticks
from isthmus.planning.slicing.wording import duration, shorten

WIDTH, HEIGHT = 11.0, 6.6
LEFT, RIGHT, TOP, BOTTOM = 0.95, 8.9, 1.3, 5.6
NOTHING = 0.7
"""Inches left of the bytes' axis for cuts that send nothing, which a logarithm has no place for."""
STEP = 16
"""Between two lines of the bytes' axis."""
DOT = 0.05
SHADES = ("#0072b2", "#4a9ac5", "#8fbfd6", "#c9c9c9", "#eab38c", "#e48a4b", "#d55e00")
"""R² from 0 to 1: Okabe and Ito's blue and vermilion, and what lies between."""
UNKNOWN = "white"
MOST_NAMED = 6


def to_svg(found: Frontier) -> bytes:
    """Return the picture as SVG; the same figures give the same bytes.

    Raises:
        EnvironmentProblem: matplotlib is not installed.
    """
    return _drawn(found).svg()


def to_png(found: Frontier) -> bytes:
    """Return the picture as PNG, 1,760 dots wide.

    Raises:
        EnvironmentProblem: matplotlib is not installed.
    """
    return _drawn(found).png()


class _Place:
    """Where figures lie on the sheet: bytes from left to right by their logarithm, seconds upwards."""

    def __init__(self, cuts: Sequence[CutFigures]) -> None:
        sizes = [cut.size_bytes for cut in cuts if cut.size_bytes] or [1]
        self.low = math.floor(math.log(min(sizes), STEP))
        self.high = max(math.ceil(math.log(max(sizes), STEP)), self.low + 1)
        self.top = 1.08 * max((cut.latency_seconds or 0.0 for cut in cuts), default=0.0) or 1.0

    def x(self, size_bytes: float) -> float:
        if not size_bytes:
            return LEFT + NOTHING / 4
        part = (math.log(size_bytes, STEP) - self.low) / (self.high - self.low)
        return LEFT + NOTHING + part * (RIGHT - LEFT - NOTHING - 0.2)

    def y(self, seconds: float) -> float:
        return BOTTOM - seconds / self.top * (BOTTOM - TOP)


def _drawn(found: Frontier) -> Sheet:
    able = [cut for cut in found.cuts if cut.latency_seconds is not None]
    place, sheet = _Place(able), Sheet(WIDTH, HEIGHT)
    _title(sheet, found, len(able))
    _axes(sheet, place)
    for cut in sorted(able, key=lambda cut: (cut.best, cut.leakage_r2 is not None)):
        _dot(sheet, place, cut)
    _names(sheet, place, able)
    _key(sheet, found)
    return sheet


def _title(sheet: Sheet, found: Frontier, able: int) -> None:
    network = shorten(found.network, 40)
    title = f"{network}: {found.first}, then {found.second}: {len(found.cuts) - 2:,} cuts, and all on either"
    sheet.text(0.25, 0.34, title, size=13, bold=True)
    sent = f"sent as {found.cast}" if found.cast else "sent as it is"
    lacking = len(found.cuts) - able
    none = f"; {lacking} are not drawn: a device cannot hold its part" if lacking else ""
    sheet.text(0.25, 0.63, f"a request of {found.batch}, {sent}{none}", size=9, color=GREY)
    sheet.text(
        0.25,
        0.83,
        "ringed: no other cut is as quick, sends as little and tells as little, and better in one of them",
        size=9,
        color=GREY,
    )


def _axes(sheet: Sheet, place: _Place) -> None:
    sheet.box(LEFT, TOP, RIGHT - LEFT, BOTTOM - TOP, fill=LIGHT, rank=0)
    unit, scale = next(
        (entry for entry in (("s", 1.0), ("ms", 1e3)) if place.top * entry[1] >= 1), ("µs", 1e6)
    )
    for tick in ticks(place.top * scale):
        y = place.y(tick / scale)
        sheet.line([(LEFT, y), (RIGHT, y)], color=PALE, width=0.8, rank=1)
        sheet.text(LEFT - 0.1, y, f"{tick:g}", size=8, color=GREY, align="right")
    for power in range(place.low, place.high + 1):
        x = place.x(STEP**power)
        sheet.line([(x, TOP), (x, BOTTOM)], color=PALE, width=0.8, rank=1)
        sheet.text(x, BOTTOM + 0.16, format_bytes(STEP**power), size=8, color=GREY, align="center")
    sheet.text(place.x(0), BOTTOM + 0.16, "nothing", size=8, color=GREY, align="center")
    sheet.text((LEFT + RIGHT) / 2, BOTTOM + 0.42, "sent for a request", size=9, color=INK, align="center")
    sheet.text(0.5, TOP - 0.14, f"latency, {unit}", size=9, color=INK)


def shade(r2: float | None) -> str:
    """Return the colour of a cut that tells so much; white: not measured."""
    if r2 is None:
        return UNKNOWN
    return SHADES[round(min(max(r2, 0.0), 1.0) * (len(SHADES) - 1))]


def _dot(sheet: Sheet, place: _Place, cut: CutFigures) -> None:
    x, y = place.x(cut.size_bytes), place.y(cut.latency_seconds or 0.0)
    if cut.best:
        sheet.dot(x, y, 1.9 * DOT, fill="white", edge=RED, rank=3)
    sheet.dot(x, y, DOT, fill=shade(cut.leakage_r2), edge=INK if cut.best else GREY, rank=3.5)


def _names(sheet: Sheet, place: _Place, able: Sequence[CutFigures]) -> None:
    """Name the best cuts, the ends of the frontier first, where a name beside its dot meets no other."""
    taken = [
        (x - DOT, x + DOT, y)
        for x, y in ((place.x(c.size_bytes), place.y(c.latency_seconds or 0)) for c in able)
    ]
    named = 0
    for cut in _in_turn([cut for cut in able if cut.best]):
        text = _said(cut)
        x, y, width = place.x(cut.size_bytes), place.y(cut.latency_seconds or 0.0), text_width(text, 7.5)
        spots = [(x + 0.15, y), (x - 0.15 - width, y)]
        spots += [(x - part * width, y + down) for down in (0.2, -0.2) for part in (0.5, 0.0, 1.0)]
        for left, middle in spots if named < MOST_NAMED else ():
            inside = left > LEFT and left + width < RIGHT and TOP < middle < BOTTOM
            if inside and not any(
                abs(middle - at) < 0.13 and left < end and start < left + width for start, end, at in taken
            ):
                taken.append((left, left + width, middle))
                sheet.text(left, middle, text, size=7.5)
                named += 1
                break


def _in_turn(best: Sequence[CutFigures]) -> list[CutFigures]:
    """The quickest, the one that sends least, and the one that tells least; then the others, the quickest first."""
    quick = sorted(best, key=lambda cut: cut.latency_seconds or 0.0)
    ends = [quick[0], min(quick, key=lambda cut: cut.size_bytes)] if quick else []
    ends += sorted(
        (cut for cut in quick if cut.leakage_r2 is not None), key=lambda cut: cut.leakage_r2 or 0.0
    )[:1]
    return list({cut.at: cut for cut in [*ends, *quick]}.values())


def _said(cut: CutFigures) -> str:
    after = f"after {shorten(cut.after, 22)}" if cut.after else "all sent on"
    known = "" if cut.leakage_r2 is None else f", R² {cut.leakage_r2:.2f}"
    return f"{cut.at}: {after}, {duration(cut.latency_seconds or 0.0)}{known}"


def _key(sheet: Sheet, found: Frontier) -> None:
    x, y = RIGHT + 0.25, TOP + 0.1
    sheet.text(x, y, "R² of the raw input", size=9)
    sheet.text(x, y + 0.17, "that a decoder rebuilds", size=9)
    steps = len(SHADES) - 1
    for k, color in enumerate(SHADES):
        sheet.dot(x + 0.08, y + 0.45 + 0.22 * k, DOT, fill=color, edge=GREY)
        sheet.text(x + 0.22, y + 0.45 + 0.22 * k, f"{k / steps:.2f}", size=8, color=GREY)
    if any(cut.leakage_r2 is None for cut in found.cuts):
        below = y + 0.45 + 0.22 * len(SHADES)
        sheet.dot(x + 0.08, below, DOT, fill=UNKNOWN, edge=GREY)
        sheet.text(x + 0.22, below, "not measured", size=8, color=GREY)
    sheet.text(0.25, HEIGHT - 0.3, f"number of a cut: operators on {found.first}", size=8, color=BLUE)
