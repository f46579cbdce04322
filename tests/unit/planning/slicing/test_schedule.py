"""Schedules: 1F1B by hand, printed and parsed, and orders that cannot run."""

from __future__ import annotations

import pytest

from isthmus.errors import InvalidCase
from isthmus.planning.slicing.schedule import MARK, Action, check, in_flight, parse, schedule, show

THREE_BY_FOUR = """\
0 | F0 F1 F2 .  .  B0 F3 B1 .  B2 .  B3
1 | .  F0 F1 .  B0 F2 B1 F3 B2 .  B3
2 | .  .  F0 B0 F1 B1 F2 B2 F3 B3"""


def test_the_grid_of_three_stages() -> None:
    assert show(schedule(3, 4)) == THREE_BY_FOUR
    assert parse(THREE_BY_FOUR) == schedule(3, 4)


@pytest.mark.parametrize("stages", [1, 2, 3, 5, 11])
@pytest.mark.parametrize("microbatches", [1, 2, 3, 5, 12])
def test_every_schedule_runs_prints_and_parses(stages: int, microbatches: int) -> None:
    rows = schedule(stages, microbatches)
    assert check(rows) == microbatches
    assert parse(show(rows)) == rows
    for k, row in enumerate(rows):
        held = most = 0
        for action in row:
            held += 1 if action.kind == "F" else -1
            most = max(most, held)
        assert most == in_flight(stages, k, microbatches) == min(microbatches, stages - k)


def test_an_order_that_waits_for_itself_is_marked() -> None:
    # Stage 0 wants the gradient of micro-batch 1 before it has sent the activations of micro-batch 1.
    rows = parse("0 | F0 B1 F1 B0\n1 | F0 B0 F1 B1")
    shown = show(rows)
    assert shown.splitlines() == [f"0 | F0 .  .  B1 {MARK} F1 B0", f"1 | .  F0 B0 F1 {MARK} B1"]
    assert parse(shown) == rows
    with pytest.raises(InvalidCase, match=r"cannot run:\n0 .*ERROR HERE"):
        check(rows)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0 | F0 F0 B0", "ERROR HERE"),
        ("0 | F0\n1 | F0 B0", "once each; stage 0 has F0"),
        ("0 | B0", "ERROR HERE"),
        ("0 | F1 B1", "from 0 on, once each"),
    ],
)
def test_what_is_missing_or_there_twice_is_refused(text: str, said: str) -> None:
    with pytest.raises(InvalidCase, match=said):
        check(parse(text))


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "at least one row"), ("1 | F0", "row 0 .* starts"), ("0 | F0 X1", "'X1'"), ("F0 B0", "row 0")],
)
def test_what_is_no_grid_is_refused(text: str, said: str) -> None:
    with pytest.raises(InvalidCase, match=said):
        parse(text)


def test_nothing_to_run_is_refused() -> None:
    with pytest.raises(InvalidCase, match="asked were 0 and 4"):
        schedule(0, 4)
    assert str(Action("B", 7)) == "B7"
