from __future__ import annotations

import pytest

from isthmus.cli.output import table
from isthmus.cli.rig import queue_rows
from isthmus.cli.rig_share import read_shares
from isthmus.errors import InvalidInput
from isthmus.model.messages import Work
from isthmus.rig.turns import Waiting, in_turn

SINCE = "2026-11-22T12:00:0{}.000Z"


def waiting(name: str, team: str, second: int) -> Waiting:
    work = Work(
        job_key=name, fencing=1, job="", manifest="", token="secret", execution="e",
        team=team, submitted_at=SINCE.format(second),
    )  # fmt: skip
    return Waiting(work=work, arrived_at=SINCE.format(9))


def test_who_waits_is_shown_per_team_with_position_and_since_when() -> None:
    entries = [waiting("a", "x", 1), waiting("b", "x", 2), waiting("c", "y", 3)]
    rows = queue_rows(list(in_turn(entries, {})))
    columns = ("position", "team", "in_team", "priority", "job", "submitted")
    assert table(rows, columns).splitlines() == [
        "POSITION  TEAM  IN_TEAM  PRIORITY  JOB  SUBMITTED",
        "1         x     1        5         a    2026-11-22T12:00:01.000Z",
        "2         y     1        5         c    2026-11-22T12:00:03.000Z",
        "3         x     2        5         b    2026-11-22T12:00:02.000Z",
    ]
    assert "secret" not in str(rows), "a task token is nobody else's business"


def test_shares_are_read_as_they_are_typed() -> None:
    assert read_shares(["vision=3", "speech=100", "vision=2"]) == {"vision": 2, "speech": 100}
    assert read_shares([]) == {}


@pytest.mark.parametrize(
    "word", ["vision", "vision=", "vision=0", "vision=-1", "vision=101", "vision=1.5", "=3", "V=3"]
)
def test_what_is_no_share_is_refused(word: str) -> None:
    with pytest.raises(InvalidInput):
        read_shares([word])
