"""The rule by which failed calls speak against a version, on figures alone."""

from __future__ import annotations

import math

import pytest

from isthmus.model.calls import Calls, Minute
from isthmus.planning.error_rate import (
    DOUBT,
    ENOUGH,
    odds_by_chance,
    speaks_against,
    speaks_for,
    tolerated_rate,
)


@pytest.mark.parametrize(("calls", "fewest"), [(2, 2), (20, 3), (50, 4), (100, 6), (1000, 21)])
def test_so_many_failures_speak_against_a_version_and_one_fewer_does_not(calls: int, fewest: int) -> None:
    assert speaks_against(Calls(calls, fewest), 0.01)
    assert not speaks_against(Calls(calls, fewest - 1), 0.01)


@pytest.mark.parametrize("calls", [1, 2, 7, 20, 50, 300])
@pytest.mark.parametrize("rate", [0.01, 0.05, 0.3])
def test_a_version_at_the_tolerated_rate_is_seldom_taken_for_a_bad_one(calls: int, rate: float) -> None:
    """The exact odds, by the binomial distribution itself."""
    odds = sum(
        math.comb(calls, failed) * rate**failed * (1 - rate) ** (calls - failed)
        for failed in range(calls + 1)
        if speaks_against(Calls(calls, failed), rate)
    )
    assert odds <= DOUBT


def test_one_call_alone_is_no_reason() -> None:
    assert not speaks_against(Calls(1, 1), 0.01)
    assert not speaks_against(Calls(1, 1), 0.0001)


def test_nothing_speaks_against_what_nobody_called() -> None:
    assert not speaks_against(Calls(0, 0), 0.0)


def test_none_is_tolerated_at_zero_and_any_at_one() -> None:
    assert speaks_against(Calls(1000, 1), 0.0)
    assert not speaks_against(Calls(1000, 1000), 1.0)


@pytest.mark.parametrize(
    ("old", "rate"),
    [
        (Calls(0, 0), 0.01),
        (Calls(1000, 0), 0.01),
        (Calls(1000, 50), 0.1),
        (Calls(ENOUGH, ENOUGH), 1.0),
        (Calls(2, 1), 0.01),
    ],
    ids=["no calls", "no failures", "twice its rate", "everything fails", "too few to be believed"],
)
def test_what_is_tolerated_beside_the_version_in_service(old: Calls, rate: float) -> None:
    assert tolerated_rate(old, 0.01) == pytest.approx(rate)


def test_callers_mistakes_that_both_versions_meet_do_not_revert() -> None:
    old, new = Calls(900, 90), Calls(100, 14)
    assert not speaks_against(new, tolerated_rate(old, 0.01))
    assert speaks_against(new, tolerated_rate(Calls(900, 1), 0.01))


@pytest.mark.parametrize(
    ("old", "new", "reverts"),
    [
        (Calls(29, 29), Calls(2, 2), False),
        (Calls(29, 29), Calls(500, 500), False),
        (Calls(1, 1), Calls(20, 20), False),
        (Calls(1, 1), Calls(200, 200), True),
        (Calls(4, 4), Calls(30, 30), True),
        (Calls(5, 5), Calls(30, 30), False),
        (Calls(29, 5), Calls(3, 3), False),
        (Calls(29, 5), Calls(4, 4), True),
        (Calls(29, 1), Calls(2, 2), True),
        (Calls(5, 1), Calls(10, 10), True),
        (Calls(29, 0), Calls(2, 2), True),
        (Calls(29, 1), Calls(50, 3), False),
    ],
)
def test_few_calls_of_the_version_in_service_that_failed_too_are_compared(
    old: Calls, new: Calls, reverts: bool
) -> None:
    assert speaks_against(new, tolerated_rate(old, 0.01), old) is reverts
    assert speaks_against(new, tolerated_rate(old, 0.0), old) is reverts


@pytest.mark.parametrize(("calls", "before"), [(2, 1), (5, 29), (40, 12)])
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.95])
def test_where_both_fail_equally_often_the_new_one_is_seldom_taken_for_the_worse(
    calls: int, before: int, rate: float
) -> None:
    """The exact odds that both fail, and the new version is taken for the worse."""

    def odds(n: int, k: int) -> float:
        return math.comb(n, k) * rate**k * (1 - rate) ** (n - k)

    reverted = sum(
        odds(calls, new) * odds(before, old)
        for new in range(calls + 1)
        for old in range(1, before + 1)
        if speaks_against(Calls(calls, new), 0.01, Calls(before, old))
    )
    assert reverted <= DOUBT


def test_the_exact_test_by_a_figure_of_its_authors() -> None:
    """The lady who tells milk from tea: all eight cups right is 1 in 70 by chance (The Design of Experiments, 1935)."""
    assert odds_by_chance(Calls(4, 4), Calls(4, 0)) == pytest.approx(1 / 70)


def test_few_calls_say_nothing_for_a_version() -> None:
    assert (speaks_for(Calls(ENOUGH - 1, 0)), speaks_for(Calls(ENOUGH, 0))) == (False, True)


def test_calls_add_up_and_good_ones_are_taken_off() -> None:
    total = Minute.total([Minute(0, Calls(5, 1)), Minute(60, Calls(3, 2))])
    assert total == Calls(8, 3)
    assert total.without(4) == Calls(4, 3)
    assert total.without(7) == Calls(3, 3), "a failure is nobody's probe"
    assert Calls(0, 0).rate == 0
