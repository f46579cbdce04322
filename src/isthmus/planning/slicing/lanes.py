"""Where the parts of a plan's picture stand, in inches from the top left corner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH = 11.0
LEFT = 2.3
"""The names of the devices stand left of it."""
LANE = 0.46
GAP = 0.2
ROW = 0.2
"""Height of a line of text between lanes."""
TOP = 1.2


@dataclass(frozen=True)
class Lanes:
    """``names``: the devices from top to bottom. ``rows``: lines of text above each lane."""

    names: tuple[str, ...]
    rows: tuple[int, ...]
    left: float
    right: float
    """The last second of time stands here."""
    edge: float
    """The lanes end here."""
    end_seconds: float

    def x(self, seconds: float) -> float:
        """Return where a time stands."""
        return self.left + (self.right - self.left) * (seconds / self.end_seconds if self.end_seconds else 0)

    def top(self, lane: int) -> float:
        """Return the upper edge of a lane."""
        return TOP + lane * LANE + sum(GAP + ROW * rows for rows in self.rows[: lane + 1])

    def middle(self, lane: int) -> float:
        """Return the middle of a lane."""
        return self.top(lane) + LANE / 2

    def row(self, lane: int, row: int) -> float:
        """Return the middle of a line of text above a lane, counted from the lane up."""
        return self.top(lane) - GAP / 2 - ROW * (row + 0.5)

    @property
    def bottom(self) -> float:
        """The lower edge of the last lane."""
        return self.top(len(self.names) - 1) + LANE


Span = tuple[float, float]


def free(span: Span, taken: Sequence[Span], within: Span) -> bool:
    """Whether ``span`` lies within, and touches nothing that is taken."""
    start, end = span
    inside = within[0] <= start and end <= within[1]
    return inside and not any(start < other_end and other < end for other, other_end in taken)
