"""A curve as text: dots of Braille patterns (Unicode, U+2800 to U+28FF), two across and four down in each character."""

from __future__ import annotations

from collections.abc import Sequence

DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
"""Of a cell's column and row, the bit in the pattern's number."""
EMPTY = 0x2800
LABEL_WIDTH = 10


def chart(xs: Sequence[float], ys: Sequence[float], width: int, height: int) -> list[str]:
    """Return ``height`` lines of ``width`` characters: the values ``ys`` at ``xs`` (rising), joined by lines, with the
    highest and the lowest value beside them."""
    low, high = min(ys), max(ys)
    columns, rows = 2 * max(1, width - LABEL_WIDTH - 2), 4 * height
    heights = [_dot(value, low, high, rows) for value in _sampled(xs, ys, columns)]
    cells = [[0] * (columns // 2) for _ in range(height)]
    previous = heights[0]
    for column, dot in enumerate(heights):
        # A steep piece is drawn as a stroke, so that the line has no holes.
        for row in range(min(previous, dot), max(previous, dot) + 1):
            cells[row // 4][column // 2] |= DOTS[column % 2][row % 4]
        previous = dot
    labels = {0: f"{high:.4g}", height - 1: f"{low:.4g}"}
    return [
        f"{labels.get(number, ''):>{LABEL_WIDTH}} ┤{''.join(chr(EMPTY + cell) for cell in line)}".rstrip(
            chr(EMPTY)
        )
        for number, line in enumerate(cells)
    ]


def _dot(value: float, low: float, high: float, rows: int) -> int:
    """Return a value's row from the top; a flat curve lies in the middle."""
    share = 0.5 if high == low else (high - value) / (high - low)
    return min(rows - 1, round(share * (rows - 1)))


def _sampled(xs: Sequence[float], ys: Sequence[float], columns: int) -> list[float]:
    """Return the value at each column, between two points by linear interpolation."""
    first, span = xs[0], xs[-1] - xs[0]
    sampled, right = [], 1
    for column in range(columns):
        x = first + span * column / max(1, columns - 1)
        while right < len(xs) - 1 and xs[right] < x:
            right += 1
        if len(xs) == 1:
            sampled.append(ys[0])
            continue
        wide = xs[right] - xs[right - 1]
        share = 1.0 if wide <= 0 else min(1.0, max(0.0, (x - xs[right - 1]) / wide))
        sampled.append(ys[right - 1] + share * (ys[right] - ys[right - 1]))
    return sampled
