"""Latencies of a load as a picture: each percentile's, on an axis on which each nine more takes as much room."""

from __future__ import annotations

import math
from collections.abc import Sequence

from isthmus.client.load import Measured, percentile, percentiles
from isthmus.planning.slicing.sheet import BLUE, GREY, INK, PALE, RED, Sheet, ticks

WIDTH, HEIGHT = 8.0, 4.6
LEFT, RIGHT, TOP, BOTTOM = 0.9, 7.6, 1.15, 3.85
POINTS = 200


def draw(measured: Measured, title: str) -> Sheet:
    """Return the picture.

    Raises:
        EnvironmentProblem: matplotlib is not installed.
    """
    sheet = Sheet(WIDTH, HEIGHT)
    sheet.text(0.25, 0.3, title, size=11, bold=True)
    sheet.text(0.25, 0.58, _told(measured), color=GREY)
    if not measured.latencies:
        sheet.text(WIDTH / 2, HEIGHT / 2, "no request was answered", align="center", color=RED)
        return sheet
    nines = max(1.0, math.log10(len(measured.latencies)))
    highest = 1000 * max(measured.latencies)
    _axes(sheet, nines, highest)
    if measured.load.rate:
        _curve(sheet, measured.services, nines, highest, GREY, dashed=True)
        sheet.text(RIGHT, TOP - 0.32, "dashed: from sending on", color=GREY, align="right")
        sheet.text(RIGHT - 1.75, TOP - 0.32, "from when it was due", color=BLUE, align="right")
    _curve(sheet, measured.latencies, nines, highest, BLUE)
    return sheet


def _told(measured: Measured) -> str:
    load = measured.load
    loop = f"open loop, {load.rate:g} requests/s" if load.rate else "closed loop"
    wrong = sum(measured.errors.values())
    return (
        f"{loop} · {load.clients} clients · {measured.requests:,} requests in {measured.seconds:.1f} s "
        f"({measured.per_second:.1f}/s) · {wrong} error{'' if wrong == 1 else 's'}"
    )


def _axes(sheet: Sheet, nines: float, highest: float) -> None:
    for tick in ticks(highest) or [0.0]:
        y = _y(tick, highest)
        if TOP <= y <= BOTTOM:
            sheet.line([(LEFT, y), (RIGHT, y)], color=PALE, width=0.8, rank=1)
            sheet.text(LEFT - 0.1, y, f"{tick:g}", align="right", color=GREY)
    sheet.text(LEFT - 0.1, TOP - 0.22, "ms", align="right", color=GREY)
    shown = [0.0, 0.5, *(1 - 10.0**-nine for nine in range(1, int(nines + 1e-9) + 1))]
    for share in shown:
        x = _x(share, nines)
        sheet.line([(x, TOP), (x, BOTTOM)], color=PALE, width=0.8, rank=1)
        sheet.text(x, BOTTOM + 0.18, f"{100 * share:.10g} %", align="center", color=GREY)
    sheet.text((LEFT + RIGHT) / 2, BOTTOM + 0.45, "of the requests took at most", align="center", color=INK)


def _curve(
    sheet: Sheet, values: Sequence[float], nines: float, highest: float, color: str, *, dashed: bool = False
) -> None:
    ordered = sorted(values)
    shares = [1 - 10.0 ** -(nines * step / POINTS) for step in range(POINTS)]
    points = [(_x(share, nines), _y(1000 * percentile(ordered, share), highest)) for share in shares]
    sheet.line([*points, (RIGHT, _y(1000 * ordered[-1], highest))], color=color, width=1.6, dashed=dashed)
    if dashed:
        return
    for label, seconds in percentiles(values).items():
        x = RIGHT if label == "max" else _x(float(label[1:]) / 100, nines)
        y = _y(1000 * seconds, highest)
        sheet.text(x - 0.06, y - 0.12, f"{1000 * seconds:.3g}", size=7.5, align="right", over="white")


def _x(share: float, nines: float) -> float:
    return LEFT + (RIGHT - LEFT) * min(1.0, -math.log10(max(1 - share, 1e-12)) / nines)


def _y(milliseconds: float, highest: float) -> float:
    return BOTTOM - (BOTTOM - TOP) * milliseconds / highest
