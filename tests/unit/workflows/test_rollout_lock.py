from __future__ import annotations

import pytest

from isthmus.adapters.local.records import MemoryRecords
from isthmus.errors import RolloutBusy
from isthmus.workflows.rollout_lock import acquire, give_back

PK = "MODEL#digits"


def take(records: MemoryRecords, holder: str, now: float = 1000.0) -> None:
    acquire(PK, holder, records=records, now=now, seconds=60)


def test_one_holder_at_a_time_who_may_take_it_again() -> None:
    records = MemoryRecords()
    take(records, "one")
    take(records, "one")
    with pytest.raises(RolloutBusy, match="one is under way"):
        take(records, "two")
    give_back(PK, "one", records=records)
    take(records, "two")


def test_it_lapses_when_its_holder_never_came_back() -> None:
    records = MemoryRecords()
    take(records, "one", now=1000)
    with pytest.raises(RolloutBusy):
        take(records, "two", now=1059)
    take(records, "two", now=1061)
    give_back(PK, "one", records=records)
    with pytest.raises(RolloutBusy):
        take(records, "three", now=1062)


def test_two_that_read_the_same_moment_do_not_both_get_it() -> None:
    class Stale(MemoryRecords):
        """Answers reads as they were before anybody wrote."""

        def get(self, pk: str, sk: str) -> None:
            return None

    records = Stale()
    take(records, "one")
    with pytest.raises(RolloutBusy, match="same moment"):
        take(records, "two")
