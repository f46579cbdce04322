from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from isthmus.cli.chart import EMPTY, chart


def rows_of(lines: list[str]) -> list[int]:
    """Return the line, from the top, on which each column's lowest dot lies."""
    drawn = [line.split("┤")[1] for line in lines]
    columns = max(map(len, drawn))
    return [
        max(n for n, line in enumerate(drawn) if column < len(line) and ord(line[column]) != EMPTY)
        for column in range(columns)
    ]


def test_a_falling_curve_falls_from_the_highest_value_to_the_lowest() -> None:
    lines = chart([0.0, 1.0, 2.0, 3.0], [8.0, 4.0, 2.0, 1.0], 40, 5)
    rows = rows_of(lines)
    assert rows == sorted(rows)
    assert (rows[0], rows[-1]) == (0, 4)
    assert (lines[0].split()[0], lines[-1].split()[0]) == ("8", "1")
    assert all(len(line) <= 40 for line in lines)


def test_where_values_come_late_the_curve_turns_late() -> None:
    rows = rows_of(chart([0.0, 9.0, 10.0], [1.0, 1.0, 0.0], 62, 5))
    assert (rows.count(0) > 40, rows[-1]) == (True, 4)


def test_a_flat_curve_lies_in_the_middle() -> None:
    assert set(rows_of(chart([0.0, 1.0], [3.0, 3.0], 30, 5))) == {2}


@given(
    st.lists(st.tuples(st.floats(0, 1e6), st.floats(-1e12, 1e12)), min_size=1, max_size=50),
    st.integers(1, 120),
    st.integers(1, 12),
)
def test_every_column_has_a_dot_whatever_is_drawn(
    points: list[tuple[float, float]], width: int, height: int
) -> None:
    points.sort()
    lines = chart([x for x, _ in points], [y for _, y in points], width, height)
    assert len(lines) == height
    rows_of(lines)
