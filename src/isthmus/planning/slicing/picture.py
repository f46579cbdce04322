"""A plan as a picture: devices as lanes, slices as blocks in time, transfers as arrows.

A request that runs serially is drawn from its start to its end. Of a pipeline one period is drawn, in
which every device works on another sample; its transfers stand beside the lanes.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import replace

from isthmus.model.slicing import Slice, SlicePlan
from isthmus.planning.slicing import wording
from isthmus.planning.slicing.arrows import (
    Arrow,
    beside_lanes,
    draw_through_time,
    gutter,
    moving,
    room,
    rows,
    through_time,
)
from isthmus.planning.slicing.lanes import LANE, LEFT, TOP, WIDTH, Lanes, Span, free
from isthmus.planning.slicing.render import pays
from isthmus.planning.slicing.sheet import (
    BLUE,
    GREY,
    INK,
    LIGHT,
    PALE,
    PEACH,
    RED,
    SKY,
    Sheet,
    text_width,
    ticks,
)
from isthmus.planning.slicing.timeline import Bar, Timeline, bottleneck, lanes, timeline

EDGE = 0.25
AFTER = 1.45
"""Behind a pipeline's period, for what each lane's block says."""
THINNEST = 0.03


def to_svg(plan: SlicePlan) -> bytes:
    """Return the picture as SVG, in which texts are texts; the same plan gives the same bytes.

    Raises:
        EnvironmentProblem: matplotlib is not installed.
    """
    return _drawn(plan).svg()


def to_png(plan: SlicePlan) -> bytes:
    """Return the picture as PNG, 1,760 dots wide.

    Raises:
        EnvironmentProblem: matplotlib is not installed.
    """
    return _drawn(plan).png()


def _drawn(plan: SlicePlan) -> Sheet:
    time, names = timeline(plan), lanes(plan)
    pipelined = plan.objective in wording.PIPELINED
    edge = WIDTH - (gutter(plan) if pipelined else EDGE)
    right = edge - AFTER if pipelined else edge
    place = Lanes(names, (0,) * len(names), LEFT, right, edge, time.end)
    arrows = [] if pipelined else through_time(plan, time.crossings, place)
    place = replace(place, rows=rows(arrows, len(names)))
    drawn = min(len(moving(plan)), room(place)) if pipelined else len(arrows)
    notes = _notes(plan, time, len(moving(plan)) - drawn)
    sheet = Sheet(WIDTH, place.bottom + 0.9 + 0.19 * len(notes))
    _title(sheet, plan)
    _names(sheet, plan, place)
    _axis(sheet, plan, place)
    _blocks(sheet, plan, time, place, arrows)
    if pipelined:
        beside_lanes(sheet, plan, place)
    else:
        draw_through_time(sheet, plan, arrows, place)
    _foot(sheet, place, time, notes)
    return sheet


def _title(sheet: Sheet, plan: SlicePlan) -> None:
    value = wording.amount(plan.value, plan.unit)
    title = f"{wording.shorten(plan.network, 50)}, batch {plan.batch}: {plan.objective} {value}"
    sheet.text(EDGE, 0.34, title, size=13, bold=True)
    proof = "exact" if plan.exact else f"gap {wording.percent(plan.gap)}"
    bound = f"bound {wording.amount(plan.bound, plan.unit)}, {proof}, by {plan.method}"
    sheet.text(EDGE, 0.63, wording.shorten(bound, 130), size=9, color=GREY)
    sheet.text(EDGE, 0.83, wording.shorten(pays(plan), 130), size=9, color=GREY)


def _names(sheet: Sheet, plan: SlicePlan, place: Lanes) -> None:
    """Each device with its slice's memory, and its share of the samples where others share them."""
    for lane, name in enumerate(place.names):
        sheet.box(LEFT, place.top(lane), place.edge - LEFT, LANE, fill=LIGHT, rank=0)
        held = [r for entry in plan.slices for r in entry.replicas if r.device == name]
        known = [r.capacity_bytes for r in held if r.capacity_bytes is not None]
        below = [wording.memory(sum(r.memory_bytes for r in held), known[0] if known else None)]
        if held[0].share < 1:
            below.insert(0, f"{wording.percent(held[0].share)} share")
        sheet.text(EDGE, place.middle(lane) - 0.095, _fitting(name), size=10, bold=True)
        sheet.text(EDGE, place.middle(lane) + 0.105, ", ".join(below), size=7, color=GREY)


def _fitting(name: str) -> str:
    """As much of a device's name as stands left of its lane."""
    texts = (wording.shorten(name, width) for width in range(40, 1, -1))
    return next(text for text in texts if text_width(text, 10, True) <= LEFT - EDGE - 0.1)


def _axis(sheet: Sheet, plan: SlicePlan, place: Lanes) -> None:
    unit, scale = next(
        (entry for entry in (("s", 1.0), ("ms", 1e3)) if place.end_seconds * entry[1] >= 1), ("µs", 1e6)
    )
    bottom = place.bottom + 0.1
    for tick in ticks(place.end_seconds * scale) if place.end_seconds else [0.0]:
        x = place.x(tick / scale)
        sheet.line([(x, TOP + 0.05), (x, bottom)], color=PALE, width=0.8, rank=1)
        sheet.text(x, bottom + 0.13, f"{tick:g}", size=8, color=GREY, align="center")
    of = {"throughput": "one period, every device on another sample", "step": "one step of training"}
    what = of.get(plan.objective, "one request, from its start to its end")
    sheet.text(
        (LEFT + place.right) / 2, bottom + 0.32, f"{what}, in {unit}", size=8, color=GREY, align="center"
    )
    if plan.objective in wording.PIPELINED and place.end_seconds:
        name = "period" if plan.objective == "throughput" else "step"
        sheet.line([(place.right, TOP + 0.05), (place.right, bottom)], color=INK, width=1.0, dashed=True)
        text = f"{name} {wording.duration(place.end_seconds)}"
        sheet.text(place.right, TOP - 0.05, text, size=8, color=INK, align="center")


def _blocks(sheet: Sheet, plan: SlicePlan, time: Timeline, place: Lanes, arrows: Sequence[Arrow]) -> None:
    slowest = bottleneck(plan)
    taken: dict[str, list[Span]] = {}
    for bar in time.bars:
        taken.setdefault(bar.device, []).append((place.x(bar.start), place.x(bar.end)))
    _say_what_lies_there(sheet, plan, place)
    # The longest first: of the bottleneck's blocks it is the one that says so.
    marked = False
    for bar in sorted(time.bars, key=lambda bar: bar.start - bar.end):
        red = slowest is not None and (slowest.slice, slowest.device) == (bar.slice, bar.device)
        _block(sheet, bar, place, red)
        if plan.objective in wording.PIPELINED:
            if bar.start == 0:
                _say_in_period(sheet, plan, bar, place, red)
        else:
            _say_in_time(sheet, bar, place, taken[bar.device], arrows, red and not marked)
            marked |= red


def _say_what_lies_there(sheet: Sheet, plan: SlicePlan, place: Lanes) -> None:
    """A lane without blocks holds the raw inputs; in a period its block of sending says enough."""
    for entry in plan.slices:
        lane = place.names.index(entry.replicas[0].device)
        if not entry.works and plan.objective not in wording.PIPELINED:
            sheet.text(LEFT + 0.07, place.middle(lane), entry.first, color=GREY)


def _block(sheet: Sheet, bar: Bar, place: Lanes, red: bool) -> None:
    x, top = place.x(bar.start), place.top(place.names.index(bar.device))
    width = max(place.x(bar.end) - x, THINNEST)
    if bar.kind == "compute":
        edge = "white" if width > 3 * THINNEST else "none"
        sheet.box(x, top, width, LANE, fill=RED if red else BLUE, edge=edge)
    else:
        sheet.box(x, top, width, LANE, fill=PEACH if red else SKY, edge=RED if red else BLUE, hatch="////")


def _say_in_period(sheet: Sheet, plan: SlicePlan, bar: Bar, place: Lanes, red: bool) -> None:
    """The layers in the block where they have room, else behind it; behind it how long it is busy."""
    entry = plan.slices[bar.slice]
    busy = next(r.busy_seconds for r in entry.replicas if r.device == bar.device)
    lane = place.names.index(bar.device)
    room = place.x(bar.end) - place.x(bar.start) - 0.14 if bar.kind == "compute" else 0.0
    inside = next((text for text in _layers(entry, bar.layers) if text_width(text) <= room), "")
    y = place.middle(lane)
    sheet.text(place.x(bar.start) + 0.07, y, inside, color="white")
    behind = [wording.duration(busy)]
    behind += [wording.shorten(bar.layers, 18)] if not inside and bar.layers else []
    behind += ["bottleneck"] if red else []
    text, x = "  ".join(behind), place.x(busy) + 0.07
    if x < place.right < x + text_width(text, bold=red) + 0.05:
        x = place.right + 0.07
    sheet.text(x, y, text, color=RED if red else INK, bold=red, over=LIGHT)


def _layers(entry: Slice, layers: str) -> list[str]:
    """What a block may say, the longest first."""
    names = " .. ".join(dict.fromkeys(name for name in (entry.first, entry.last) if name))
    count = sum(end - start for start, end in entry.ranges)
    return [f"{layers}  {names}", layers, f"{count} operators"] if layers else []


def _say_in_time(
    sheet: Sheet, bar: Bar, place: Lanes, taken: list[Span], arrows: Sequence[Arrow], mark: bool
) -> None:
    """In the block where there is room, else right or left of it; where there is none, nothing. The
    bottleneck says so in any case, beside its device's name if need be."""
    took = wording.duration(bar.end - bar.start)
    said = f"{bar.layers}  {took}  bottleneck" if mark else f"{bar.layers}  {took}"
    x, end, lane = place.x(bar.start), place.x(bar.end), place.names.index(bar.device)
    y = place.middle(lane)
    for text in [said] if mark else [said, bar.layers]:
        if text_width(text, bold=mark) <= end - x - 0.12:
            sheet.text((x + end) / 2, y, text, color="white", bold=mark, align="center")
            return
    width = text_width(said, bold=mark)
    crossing = [
        arrow.way.between(lane - 0.3, lane + 0.3)
        for arrow in arrows
        if arrow.way.crosses(lane) and arrow.way.crosses(lane + 1)
    ]
    spots = [(end + 0.06, end + 0.06 + width), (x - 0.06 - width, x - 0.06)]
    for obstacles in ([*taken, *crossing], taken):
        for spot in spots:
            if free(spot, obstacles, (LEFT, WIDTH - 0.1)):
                taken.append(spot)
                sheet.text(spot[0], y, said, color=RED if mark else INK, bold=mark, over=LIGHT)
                return
    if mark:
        sheet.text(LEFT - 0.1, y - 0.095, "bottleneck", color=RED, bold=True, align="right")


def _notes(plan: SlicePlan, time: Timeline, hidden: int) -> list[str]:
    notes = [f"given up: {plan.given_up}"] if plan.given_up else []
    if time.estimated:
        notes.append("a slice's time is spread over its ranges by their number of operators")
    if time.rest:
        notes.append(f"the last {wording.duration(time.rest)}: results go back to where the raw input lies")
    if hidden:
        notes.append(f"{hidden} more transfers, none of them longer, are not drawn")
    idle = [e.device for e in plan.reasons if not e.used and e.device not in lanes(plan)]
    if idle:
        notes.append(f"not used: {', '.join(idle)}")
    return [line for note in notes for line in textwrap.wrap(note, 140)]


def _foot(sheet: Sheet, place: Lanes, time: Timeline, notes: list[str]) -> None:
    x, y = LEFT, place.bottom + 0.68
    kinds: list[tuple[str, str, str | None]] = [(BLUE, "computing", None), (RED, "bottleneck", None)]
    if any(bar.kind == "exchange" for bar in time.bars):
        kinds.insert(1, (SKY, "sending and receiving", "////"))
    for fill, text, hatch in kinds:
        sheet.box(x, y - 0.06, 0.22, 0.12, fill=fill, edge=BLUE if hatch else "none", hatch=hatch)
        sheet.text(x + 0.3, y, text, size=8)
        x += 0.3 + text_width(text, 8) + 0.3
    sheet.line([(x, y), (x + 0.26, y)], arrow=True)
    sheet.text(x + 0.34, y, "transfer", size=8)
    for i, note in enumerate(notes, start=1):
        sheet.text(EDGE, y + 0.06 + 0.19 * i, note, size=8, color=GREY)
