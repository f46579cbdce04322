from __future__ import annotations

import pytest

from isthmus.model.messages import Work
from isthmus.rig.turns import Waiting, in_turn


def waiting(name: str, team: str, submitted: str = "", arrived: str = "", started: str = "") -> Waiting:
    work = Work(
        job_key=name, fencing=1, job="", manifest="", token="t", execution="e",
        team=team, submitted_at=submitted, started_at=started,
    )  # fmt: skip
    return Waiting(work=work, arrived_at=arrived)


def names(entries: list[Waiting], served: dict[str, int] | None = None) -> list[str]:
    return [entry.work.job_key for entry in in_turn(entries, served or {})]


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
