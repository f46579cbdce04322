"""The transfers of a plan's picture: arrows through time, or beside the lanes of a pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from isthmus.model.slicing import SlicePlan, Transfer
from isthmus.model.units import format_bytes
from isthmus.planning.slicing.lanes import GAP, LANE, LEFT, ROW, TOP, WIDTH, Lanes, Span, free
from isthmus.planning.slicing.sheet import GREY, INK, RED, Sheet, text_width
from isthmus.planning.slicing.timeline import Crossing, bottleneck
from isthmus.planning.slicing.wording import duration

MOST = 24
"""Arrows through time; more hide each other."""
PAD = 0.08
TRACK = 0.15
TRACKS = 1.05
"""Width of all tracks beside the lanes together: many stand closer."""


@dataclass(frozen=True, slots=True)
class Way:
    """A transfer from lane ``source`` to lane ``target``, from ``start`` to ``end`` in inches."""

    number: int
    source: int
    target: int
    start: float
    end: float

    def crosses(self, gap: int) -> bool:
        """Whether it passes above lane ``gap``."""
        return min(self.source, self.target) < gap <= max(self.source, self.target)

    def between(self, high: float, low: float) -> Span:
        """Return where it stands between two heights, both counted in lanes; rows are taken as alike."""
        steps = self.target - self.source
        found = [self.start + (self.end - self.start) * (y - self.source) / steps for y in (high, low)]
        return min(found) - PAD / 2, max(found) + PAD / 2


@dataclass(frozen=True, slots=True)
class Arrow:
    """A way, and where its text stands: in line ``row`` above lane ``gap``, from ``text_x`` on."""

    way: Way
    text: str
    gap: int
    row: int
    text_x: float
    on_line: bool


def text_of(entry: Transfer) -> str:
    """Return a transfer's text: ``1.2 MiB, 8.30 ms, relay, float16, R² 0.310``."""
    parts = [format_bytes(entry.size_bytes), duration(entry.seconds)]
    parts += [entry.transport] if entry.transport != "direct" else []
    parts += [entry.dtype] if entry.dtype else []
    parts += [f"R² {entry.leakage_r2:.3f}"] if entry.leakage_r2 is not None else []
    return ", ".join(parts)


def moving(plan: SlicePlan) -> list[int]:
    """Return the transfers between devices, the longest first."""
    found = [
        k
        for k, entry in enumerate(plan.transfers)
        if {r.device for r in plan.slices[entry.source].replicas}
        != {r.device for r in plan.slices[entry.target].replicas}
    ]
    return sorted(found, key=lambda k: (-plan.transfers[k].seconds, k))


def through_time(plan: SlicePlan, crossings: Sequence[Crossing], place: Lanes) -> list[Arrow]:
    """Return the arrows of a request that runs serially, with their texts out of each other's way."""
    lane_of = {name: lane for lane, name in enumerate(place.names)}
    homes = [lane_of[entry.replicas[0].device] for entry in plan.slices]
    shown = set(moving(plan)[:MOST])
    ways = [
        Way(
            crossing.transfer,
            homes[plan.transfers[crossing.transfer].source],
            homes[plan.transfers[crossing.transfer].target],
            place.x(crossing.start),
            place.x(crossing.end),
        )
        for crossing in crossings
        if crossing.transfer in shown
    ]
    taken: dict[tuple[int, int], list[Span]] = {}
    arrows = []
    for way in ways:
        text, red = text_of(plan.transfers[way.number]), is_bottleneck(plan, way.number)
        text += ", bottleneck" if red else ""
        width = text_width(text, bold=red)
        arrow = _placed(way, text, width, [other for other in ways if other is not way], taken)
        taken.setdefault((arrow.gap, arrow.row), []).append((arrow.text_x - PAD, arrow.text_x + width + PAD))
        arrows.append(arrow)
    return arrows


def is_bottleneck(plan: SlicePlan, number: int) -> bool:
    """Whether a transfer is what the plan waits for."""
    slowest = bottleneck(plan)
    return slowest is not None and slowest.transfer == number


def _placed(
    way: Way, text: str, width: float, others: Sequence[Way], taken: dict[tuple[int, int], list[Span]]
) -> Arrow:
    """Put a text where it fits best: right or left of its arrow, else on it, in any gap that the arrow
    crosses; clear of other texts always, of other arrows where possible."""
    within = (LEFT, WIDTH - 0.15)
    lower = max(way.source, way.target)
    best: tuple[float, Arrow] | None = None
    for gap in range(lower, min(way.source, way.target), -1):
        start, end = way.between(gap - 0.7, gap - 0.3)
        middle = min(max((start + end - width) / 2, within[0]), within[1] - width)
        crossing = [other.between(gap - 0.7, gap - 0.3) for other in others if other.crosses(gap)]
        for row in range(MOST + 1):
            for x, on_line in ((end + PAD / 2, False), (start - PAD / 2 - width, False), (middle, True)):
                if not free((x, x + width), taken.get((gap, row), ()), within):
                    continue
                crossed = sum(low < x + width and x < high for low, high in crossing)
                cost = row + 2.0 * crossed + 2.5 * on_line + 0.3 * (lower - gap)
                if best is None or cost < best[0]:
                    best = cost, Arrow(way, text, gap, row, x, on_line)
    # There are at most MOST other texts, so that one of MOST + 1 lines is free for a text on its arrow;
    # only what is wider than the whole sheet has no place, and stands at its left edge.
    return best[1] if best is not None else Arrow(way, text, lower, 0, LEFT, True)


def rows(arrows: Sequence[Arrow], lanes: int) -> tuple[int, ...]:
    """Return how many lines of text stand above each lane."""
    return tuple(max((a.row + 1 for a in arrows if a.gap == lane), default=0) for lane in range(lanes))


def draw_through_time(sheet: Sheet, plan: SlicePlan, arrows: Sequence[Arrow], place: Lanes) -> None:
    """Draw the arrows from the lower edge of a block to the upper edge of the next, or back up."""
    for arrow in arrows:
        way, red = arrow.way, is_bottleneck(plan, arrow.way.number)
        if way.target > way.source:
            heights = place.top(way.source) + LANE, place.top(way.target)
        else:
            heights = place.top(way.source), place.top(way.target) + LANE
        points = [(way.start, heights[0]), (way.end, heights[1])]
        sheet.line(points, color=RED if red else GREY, width=2.0 if red else 1.3, arrow=True)
        y = place.row(arrow.gap, arrow.row)
        if arrow.on_line:
            width = text_width(arrow.text, bold=red) + 2 * PAD
            sheet.box(arrow.text_x - PAD, y - ROW / 2, width, ROW, fill="white", rank=4)
        sheet.text(arrow.text_x, y, arrow.text, color=RED if red else INK, bold=red, over="white")


def gutter(plan: SlicePlan) -> float:
    """Return the width in inches that transfers beside the lanes need."""
    texts = [text_width(text_of(plan.transfers[k])) for k in moving(plan)]
    return 0.45 + min(TRACKS, TRACK * (2 + len(texts))) + max(texts) if texts else 0.2


def room(place: Lanes) -> int:
    """Return how many texts have room beside the lanes."""
    return int((place.bottom - place.top(0)) / ROW) + 1


def beside_lanes(sheet: Sheet, plan: SlicePlan, place: Lanes) -> None:
    """Draw a pipeline's transfers right of its lanes, the longest where not all have room."""
    shown = moving(plan)[: room(place)]
    if not shown:
        return
    sheet.text(place.edge + 0.2, TOP - 0.05, "transfers", size=8, color=GREY)
    lane_of = {name: lane for lane, name in enumerate(place.names)}
    spans = [[lane_of[r.device] for r in entry.replicas] for entry in plan.slices]
    ports = _ports(plan, shown, [(place.middle(min(s)) + place.middle(max(s))) / 2 for s in spans])
    x = place.edge + PAD
    for entry in spans:
        if len(entry) > 1:
            high, low = place.middle(min(entry)) - LANE / 3, place.middle(max(entry)) + LANE / 3
            sheet.line([(x, high), (x + 0.06, high), (x + 0.06, low), (x, low)], width=1.0)
    x += 0.1
    tracks = _tracks(ports)
    count = 2 + max(tracks.values())
    step = min(TRACK, TRACKS / count)
    text_x = x + step * count + PAD
    for number, y in _spread({k: (a + b) / 2 for k, (a, b) in ports.items()}, place).items():
        start, end = ports[number]
        bend = x + step * (1 + tracks[number])
        sheet.line([(x, start), (bend, start), (bend, end), (x, end)], arrow=True)
        held = min(max(y, min(start, end)), max(start, end))
        sheet.line([(bend, held), (text_x - 0.04, y)], width=0.6)
        sheet.text(text_x, y, text_of(plan.transfers[number]), over="white")


def _ports(plan: SlicePlan, shown: Sequence[int], middles: Sequence[float]) -> dict[int, Span]:
    """Return the height at which each arrow leaves and arrives: beside each other, nearest end first."""
    ends: dict[int, list[tuple[float, int, int]]] = {}
    for number in shown:
        entry = plan.transfers[number]
        ends.setdefault(entry.source, []).append((middles[entry.target], 0, number))
        ends.setdefault(entry.target, []).append((middles[entry.source], 1, number))
    found: dict[int, list[float]] = {number: [0.0, 0.0] for number in shown}
    for k, here in ends.items():
        step = min(0.14, 0.8 * LANE / len(here))
        # What goes up leaves above what goes down, and of these the farthest first: few lines cross.
        order = sorted(here, key=lambda e: (e[0] > middles[k], -e[0], e[1], e[2]))
        for i, (_, side, number) in enumerate(order):
            found[number][side] = middles[k] + step * (i - (len(here) - 1) / 2)
    return {number: (pair[0], pair[1]) for number, pair in found.items()}


def _tracks(ports: dict[int, Span]) -> dict[int, int]:
    """Give each arrow a track of its own where it would lie on another; short ones stay near the lanes."""
    found: dict[int, int] = {}
    for number in sorted(ports, key=lambda k: (abs(ports[k][1] - ports[k][0]), k)):
        low, high = sorted(ports[number])
        busy = {found[k] for k in found if low < max(ports[k]) + GAP / 4 and min(ports[k]) - GAP / 4 < high}
        found[number] = next(track for track in range(len(ports)) if track not in busy)
    return found


def _spread(wanted: dict[int, float], place: Lanes) -> dict[int, float]:
    """Move heights apart to a line each, as little as a sweep down and one up does."""
    order = sorted(wanted, key=lambda k: (wanted[k], k))
    found: dict[int, float] = {}
    lowest = place.top(0)
    for number in order:
        found[number] = max(wanted[number], lowest)
        lowest = found[number] + ROW
    highest = place.bottom
    for number in reversed(order):
        found[number] = min(found[number], highest)
        highest = found[number] - ROW
    return found
