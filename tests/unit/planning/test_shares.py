from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.errors import InvalidCase
from isthmus.planning.shares import by_rate, equal, seconds


def test_equal_shares_give_what_is_left_over_to_the_first() -> None:
    assert equal(10, 4) == (3, 3, 2, 2)


@pytest.mark.parametrize(
    ("rows", "rates", "shares"),
    [(20, (3.0, 1.0), (15, 5)), (3, (1.0, 1.0), (2, 1)), (4, (1000.0, 1.0), (4, 0)), (0, (1.0, 2.0), (0, 0))],
)
def test_shares_follow_the_rates(rows: int, rates: tuple[float, ...], shares: tuple[int, ...]) -> None:
    assert by_rate(rows, rates) == shares


@given(st.integers(1, 12), st.lists(st.floats(0.1, 10), min_size=2, max_size=3))
def test_no_other_shares_are_done_earlier(rows: int, rates: list[float]) -> None:
    found = by_rate(rows, rates)
    assert sum(found) == rows
    others = [(rows,)]
    for _ in rates[1:]:
        others = [(*o[:-1], k, o[-1] - k) for o in others for k in range(o[-1] + 1)]
    assert seconds(found, rates) <= min(seconds(other, rates) for other in others) * (1 + 1e-9)


@pytest.mark.parametrize("rates", [(), (1.0, 0.0), (1.0, float("nan"))])
def test_a_rate_that_is_none_is_refused(rates: tuple[float, ...]) -> None:
    with pytest.raises(InvalidCase, match="shares need rates above zero"):
        by_rate(4, rates)
