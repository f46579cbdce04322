from __future__ import annotations

from typing import Any

import msgspec
import pytest

from isthmus.adapters.local.queue import MemoryTasks
from isthmus.adapters.local.records import MemoryRecords
from isthmus.adapters.system import SystemThreads
from isthmus.errors import Unavailable
from isthmus.model import layout
from isthmus.model.messages import AttemptState, Outcome, Work
from isthmus.rig import lease

KEY, RIG = "job", "rig-1"
WORK = Work(job_key=KEY, fencing=1, job="", manifest="", token="t", execution="e")
LOST = Outcome(state=AttemptState.LOST, cause="the token never came")


@pytest.fixture
def records() -> MemoryRecords:
    return MemoryRecords()


def sent_again(**changes: Any) -> Work:
    return msgspec.structs.replace(WORK, **changes)


def test_an_agent_that_takes_over_is_the_only_one_that_can_commit(records: MemoryRecords) -> None:
    assert lease.take(WORK, RIG, records, "a") == "fresh"
    assert lease.take(WORK, RIG, records, "b") == "another's"
    assert lease.is_held(WORK, RIG, "a", records), "to take is not to take over"
    assert lease.take_over(WORK, RIG, "b", records)
    assert lease.take_over(WORK, RIG, "b", records), "it may be repeated"
    assert (lease.is_held(WORK, RIG, "a", records), lease.is_held(WORK, RIG, "b", records)) == (False, True)
    assert lease.take(WORK, RIG, records, "a") == "another's"
    assert not lease.commit(KEY, 1, RIG, LOST, records, "a")
    done = Outcome(state=AttemptState.SUCCEEDED)
    assert lease.commit(KEY, 1, RIG, done, records, "b")
    assert lease.commit(KEY, 1, RIG, done, records, "b"), "its own outcome, found again"
    assert not lease.commit(KEY, 1, RIG, done, records, "a")


def test_who_holds_a_lease_that_another_agent_bid_for_takes_no_answer_for_its_own(
    records: MemoryRecords,
) -> None:
    lease.take(WORK, RIG, records, "a")
    assert lease.bid(WORK, RIG, "b", records)
    assert lease.take(WORK, RIG, records, "a") == "again"
    assert not lease.is_held(WORK, RIG, "a", records), "b may have answered"
    assert lease.take(sent_again(retries=1), RIG, records, "a") == "fresh"
    assert lease.is_held(sent_again(retries=1), RIG, "a", records), (
        "of an older message's bid nothing is left"
    )
    lease.commit(KEY, 1, RIG, LOST, records, "a")
    assert not lease.bid(WORK, RIG, "b", records)


def test_what_has_an_outcome_is_not_taken_over(records: MemoryRecords) -> None:
    lease.take(WORK, RIG, records, "a")
    assert lease.commit(KEY, 1, RIG, LOST, records, "a")
    assert not lease.take_over(WORK, RIG, "b", records)


def test_a_lease_that_names_no_agent_is_of_the_rigs_only_one(records: MemoryRecords) -> None:
    records.put({"pk": layout.job_pk(KEY), "sk": layout.LEASE, "fencing": 1, "rig": RIG, "token": "t"})
    assert lease.take(WORK, RIG, records, "a") == "again"
    assert lease.commit(KEY, 1, RIG, LOST, records, "a")


@pytest.mark.parametrize("changes", [{"redrives": 1}, {"retries": 1}, {"redrives": 1, "retries": 0}])
@pytest.mark.parametrize("agent", ["a", "b"])
@pytest.mark.parametrize("ended", [True, False])
def test_what_came_to_nothing_is_taken_anew_by_a_later_message(
    records: MemoryRecords, changes: dict[str, int], agent: str, ended: bool
) -> None:
    lease.take(WORK, RIG, records, "a")
    if ended:
        lease.commit(KEY, 1, RIG, LOST, records, "a")
    assert lease.take(sent_again(**changes), RIG, records, agent) == "fresh"
    assert lease.read(KEY, records)["outcome"] is None
    assert lease.is_held(WORK, RIG, agent, records)
    assert lease.take(sent_again(**changes), RIG, records, agent) == "again"


def test_what_was_trained_is_not_taken_anew(records: MemoryRecords) -> None:
    lease.take(WORK, RIG, records, "a")
    records.update(layout.job_pk(KEY), layout.LEASE, {"token": "train"})
    lease.commit(KEY, 1, RIG, LOST, records, "a")
    assert lease.take(sent_again(redrives=1), RIG, records, "a") == "no"


def test_an_earlier_message_takes_nothing_anew(records: MemoryRecords) -> None:
    lease.take(sent_again(redrives=1), RIG, records, "a")
    lease.commit(KEY, 1, RIG, LOST, records, "a")
    assert lease.take(sent_again(retries=3), RIG, records, "a") == "no"
    assert lease.take(sent_again(redrives=2), "rig-2", records, "a") == "no", "the other rig's attempt"


def test_an_earlier_message_than_the_lease_was_taken_for_is_dropped(records: MemoryRecords) -> None:
    """Its token is void: whoever held on to it would wait for a training's token that never comes."""
    lease.take(sent_again(retries=1), RIG, records, "a")
    assert lease.take(WORK, RIG, records, "a") == "no"
    assert lease.take(sent_again(retries=1), RIG, records, "a") == "again"


class Away(MemoryRecords):
    """Answers none of the first looks."""

    def __init__(self, unanswered: int) -> None:
        super().__init__()
        self.left = unanswered

    def get(self, pk: str, sk: str) -> Any:
        if self.left:
            self.left -= 1
            raise Unavailable("no route")
        return super().get(pk, sk)


def test_a_token_is_missing_only_where_the_table_says_so() -> None:
    """A network that is away says nothing: a training that runs meanwhile goes on."""
    records = Away(40)
    lease.take(WORK, RIG, records, "a")
    threads, told = SystemThreads(), []
    missing = threads.flag()
    keeper = lease.Keeper(
        WORK,
        RIG,
        agent="a",
        records=records,
        tasks=MemoryTasks(),
        threads=threads,
        poll_seconds=0.005,
        report=lambda event, **fields: told.append(event),
        on_lost=missing.set,
    )
    left_when_missed: list[int] = []

    def miss() -> None:
        left_when_missed.append(records.left)
        missing.set()

    keeper.expect_token(0.02, miss)
    with keeper:
        assert missing.wait(20)
    assert left_when_missed == [0]
    assert told == ["heartbeat failed"] * 40
