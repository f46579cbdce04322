"""When a relay looks for the next message."""

from __future__ import annotations

import itertools

import pytest

from isthmus.transport.pace import Pace


def looks(pace: Pace, comes: float) -> list[float]:
    """Return when the looks leave until one leaves after the message has come."""
    left = [0.0]
    while left[-1] < comes:
        left.append(left[-1] + pace.spacing(left[-1]))
    pace.found(left[-1])
    return left


def test_what_comes_at_the_same_time_is_soon_found_there() -> None:
    pace = Pace()
    late = [looks(pace, 0.5)[-1] - 0.5 for _ in range(20)]
    assert max(late[-5:]) <= 2 * pace.close_seconds
    assert len(looks(pace, 0.5)) < 15


def test_what_comes_sooner_than_it_used_to_is_found_soon_after() -> None:
    pace = Pace()
    for _ in range(10):
        looks(pace, 0.8)
    late = [looks(pace, 0.03)[-1] - 0.03 for _ in range(10)]
    assert max(late[-3:]) <= 2 * pace.close_seconds


def test_what_does_not_come_is_looked_for_ever_more_rarely_but_is() -> None:
    pace = Pace()
    pace.found(0.05)
    left = looks(pace, 3600)
    apart = [after - before for before, after in itertools.pairwise(left)]
    assert max(apart) == pytest.approx(pace.remote_seconds)
    assert len(left) < 3700
