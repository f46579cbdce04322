from __future__ import annotations

from typing import Any

import msgspec
import pytest

from isthmus.adapters.local.queue import ManualClock
from isthmus.adapters.local.records import MemoryRecords
from isthmus.model import layout
from isthmus.model.messages import AttemptState, Outcome, Work
from isthmus.rig import lease
from isthmus.rig.verdict import why_lost
from isthmus.workflows.record_outcome import order_of

STARTED = "2026-11-27T08:00:00.000Z"
SECONDS = 1_795_766_400
WORK = Work(
    job_key="job", fencing=1, job="", manifest="", token="t", execution="e", started_at=STARTED, redrives=1
)


class Comes(ManualClock):
    """The mark comes while somebody waits for it."""

    def __init__(self, records: MemoryRecords, mark: dict[str, Any]) -> None:
        super().__init__()
        self._records, self._mark = records, mark

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        self._records.update(layout.job_pk("job"), layout.STATE, self._mark)


@pytest.fixture
def records() -> MemoryRecords:
    records = MemoryRecords()
    assert lease.take(WORK, "rig-1", records, "a") == "fresh"
    return records


def mark(redrives: int, state: str = "ABORTED") -> dict[str, Any]:
    return {
        "state": state,
        "cause": "wrong data",
        "order": order_of(SECONDS, redrives, ended=state != "RUNNING"),
    }


def test_a_persons_stop_is_found_when_its_mark_comes(records: MemoryRecords) -> None:
    found = why_lost(WORK, records, Comes(records, mark(1)), 5, "TaskTimedOut")
    assert found == Outcome(state=AttemptState.ABORTED, cause="the job is ABORTED: wrong data")


def test_the_stop_of_an_earlier_redrive_is_no_reason(records: MemoryRecords) -> None:
    """It was stopped, then redriven; the event of the redrive is late."""
    records.update(layout.job_pk("job"), layout.STATE, mark(0))
    clock = ManualClock()
    begun = clock.now()
    found = why_lost(WORK, records, clock, 5, "TaskTimedOut")
    assert found == Outcome(state=AttemptState.LOST, cause="TaskTimedOut")
    assert clock.now() - begun == 5


def test_an_execution_that_failed_or_goes_on_without_us_lost_the_attempt(records: MemoryRecords) -> None:
    records.update(layout.job_pk("job"), layout.STATE, mark(1, "FAILED"))
    found = why_lost(WORK, records, ManualClock(), 5, "TaskTimedOut")
    assert found == Outcome(state=AttemptState.LOST, cause="the job is FAILED: wrong data")
    records.update(layout.job_pk("job"), layout.STATE, mark(2, "RUNNING"))
    lost = {"state": "LOST", "cause": "the rig fell silent"}
    records.update(layout.job_pk("job"), layout.LEASE, lost)
    found = why_lost(WORK, records, ManualClock(), 5, "TaskTimedOut")
    assert found == Outcome(state=AttemptState.LOST, cause="the rig fell silent")
    lease.take(msgspec.structs.replace(WORK, fencing=2), "rig-2", records, "b")
    found = why_lost(WORK, records, ManualClock(), 5, "TaskTimedOut")
    assert found.cause == "attempt 2 of rig rig-2 holds the lease"


def test_a_message_without_its_executions_start_believes_the_mark(records: MemoryRecords) -> None:
    records.update(layout.job_pk("job"), layout.STATE, mark(0))
    old = msgspec.structs.replace(WORK, started_at="")
    assert why_lost(old, records, ManualClock(), 5, "x").state is AttemptState.ABORTED
