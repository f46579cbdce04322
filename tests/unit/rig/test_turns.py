from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.model.messages import Work
from isthmus.rig.turns import Turn, Waiting, in_turn, next_turn


def waiting(
    name: str, team: str, submitted: str = "", arrived: str = "", started: str = "", priority: int = 5
) -> Waiting:
    work = Work(
        job_key=name, fencing=1, job="", manifest="", token="t", execution="e",
        team=team, submitted_at=submitted, started_at=started, priority=priority,
    )  # fmt: skip
    return Waiting(work=work, arrived_at=arrived)


def names(entries: list[Waiting], served: dict[str, int] | None = None) -> list[str]:
    turns = {team: Turn(served_at=at) for team, at in (served or {}).items()}
    return [entry.work.job_key for entry in in_turn(entries, turns)]


@pytest.mark.parametrize(
    ("entries", "served", "order"),
    [
        ([], {}, []),
        ([("b", "x", "2"), ("a", "x", "1"), ("c", "x", "3")], {}, ["a", "b", "c"]),
        (
            [("a", "x", "1"), ("b", "x", "2"), ("c", "x", "3"), ("d", "y", "9")],
            {},
            ["a", "d", "b", "c"],
        ),
        ([("a", "x", "1"), ("b", "y", "2")], {"x": 5}, ["b", "a"]),
        ([("a", "x", "1"), ("b", "y", "2")], {"x": 5, "y": 6}, ["a", "b"]),
        (
            [("a", "x", "1"), ("b", "x", "2"), ("c", "y", "3"), ("d", "z", "4")],
            {"y": 7, "gone": 9},
            ["a", "d", "c", "b"],
        ),
    ],
    ids=["nothing", "one team", "a crowd waits for one", "served", "served longer ago", "three teams"],
)
def test_teams_take_turns_and_within_a_team_the_first_submitted_goes_first(
    entries: list[tuple[str, str, str]], served: dict[str, int], order: list[str]
) -> None:
    assert names([waiting(*entry) for entry in entries], served) == order


def test_what_was_submitted_in_the_same_second_goes_by_its_executions_start() -> None:
    entries = [waiting("a", "x", "1", started="2"), waiting("b", "x", "1", started="1")]
    assert names(entries) == ["b", "a"]


def test_a_message_that_knows_no_submission_counts_from_its_arrival() -> None:
    entries = [
        waiting("old", "default", arrived="2026-11-22T12:00:05.000Z"),
        waiting("new", "default", "2026-11-22T12:00:04.000Z", arrived="2026-11-22T12:00:09.000Z"),
        waiting("later", "default", "2026-11-22T12:00:06.000Z", arrived="2026-11-22T12:00:07.000Z"),
    ]
    assert names(entries) == ["new", "old", "later"]


def test_the_order_does_not_depend_on_who_looks() -> None:
    entries = [waiting(name, team, "1") for name in "abc" for team in ("x", "y")]
    assert names(entries) == names(entries[::-1])


def test_the_higher_priority_goes_first_within_its_team_and_jumps_no_other() -> None:
    entries = [
        waiting("a", "x", "1", priority=0),
        waiting("b", "x", "2"),
        waiting("c", "x", "3", priority=9),
        waiting("d", "y", "4", priority=0),
        waiting("e", "y", "5"),
    ]
    assert names(entries) == ["c", "e", "b", "d", "a"]


def taken(teams: str, shares: dict[str, int], turns: int) -> list[str]:
    """Return whose turns the first ones are while every team has more work than that."""
    entries = [waiting(f"{team}{n:03}", team, f"{n:03}") for team in teams for n in range(turns)]
    return [entry.work.team for entry in in_turn(entries, {}, shares)][:turns]


@pytest.mark.parametrize(
    ("shares", "order"),
    [
        ({}, "xyxyxyxy"),
        ({"x": 3}, "xyxxyxxx"),
        ({"y": 2}, "xyyxyyxy"),
        ({"x": 5, "y": 5}, "xyxyxyxy"),
    ],
    ids=["equal", "three of four", "two of three", "equal and larger"],
)
def test_turns_are_had_by_share(shares: dict[str, int], order: str) -> None:
    assert "".join(taken("xy", shares, len(order))) == order


@given(
    shares=st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 12), min_size=2),
    turns=st.integers(1, 60),
    since=st.integers(0, 40),
)
def test_over_any_stretch_two_teams_turns_by_share_differ_by_one_of_each_at_most(
    shares: dict[str, int], turns: int, since: int
) -> None:
    """Theorem 1 of start-time fair queuing; from the beginning and from any turn on."""
    order = taken("".join(shares), shares, since + turns)
    had = Counter(order[since:])
    for one, its in shares.items():
        for other, others in shares.items():
            assert abs(had[one] / its - had[other] / others) <= 1 / its + 1 / others + 1e-9


@given(share=st.integers(1, 100), turns=st.integers(101, 140))
def test_no_share_of_others_keeps_a_team_from_its_turn(share: int, turns: int) -> None:
    assert "y" in taken("xy", {"x": share}, turns)[: share + 2]


def test_a_team_that_was_away_has_nothing_saved_up() -> None:
    turns: dict[str, Turn] = {"away": Turn(served_at=1, start=0.0, finish=1.0)}
    for at in range(2, 102):
        turns["busy"] = next_turn("busy", turns, {}, at)
    entries = [waiting(f"{team}{n}", team, f"{n}") for team in ("away", "busy") for n in range(4)]
    order = [entry.work.team for entry in in_turn(entries, turns)]
    assert order == ["away", "busy"] * 4


def test_turns_that_an_earlier_agent_noted_keep_their_order() -> None:
    old = {"x": Turn(served_at=5), "y": Turn(served_at=4), "z": Turn(served_at=6)}
    entries = [waiting(f"{team}{n}", team, "1") for team in "xyz" for n in range(2)]
    assert [entry.work.team for entry in in_turn(entries, old)] == list("yxzyxz")
