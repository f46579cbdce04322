from __future__ import annotations

from typing import Any

import pytest

from isthmus.adapters.local.records import MemoryRecords
from isthmus.cli.pipeline_text import describe_attempt
from isthmus.model import layout
from isthmus.model.messages import AttemptState
from isthmus.workflows.attempts import newest_attempt

PK = layout.job_pk("job")


def shown(records: MemoryRecords) -> str:
    found = newest_attempt("job", records)
    assert found is not None
    return describe_attempt(found)


@pytest.fixture
def records() -> MemoryRecords:
    records = MemoryRecords()
    records.next_number(PK, "FENCING")
    return records


def test_before_the_first_plan_there_is_no_attempt() -> None:
    assert newest_attempt("job", MemoryRecords()) is None


def test_what_no_rig_took_waits_or_was_stopped(records: MemoryRecords) -> None:
    assert shown(records) == "training 1: QUEUED: it waits for its turn on a rig"
    records.update(PK, layout.STATE, {"state": "ABORTED", "cause": "stopped by isthmus job stop"})
    assert shown(records) == "training 1: ABORTED: stopped by isthmus job stop"


@pytest.mark.parametrize(
    ("item", "line"),
    [
        ({"state": "LEASED"}, "training 1 on r: LEASED"),
        ({"state": "RUNNING", "outcome": None}, "training 1 on r: RUNNING"),
        ({"state": "LOST", "cause": "the rig fell silent"}, "training 1 on r: LOST: the rig fell silent"),
        (
            {
                "state": "FAILED",
                "outcome": {"state": "FAILED", "exit_code": 3, "cause": "exit code 3\nNo GPU"},
            },
            "training 1 on r: FAILED: No GPU",
        ),
        ({"state": "SUCCEEDED", "outcome": {"state": "SUCCEEDED"}}, "training 1 on r: SUCCEEDED"),
        (
            {"state": "ABORTED", "outcome": {"state": "ABORTED", "cause": "the job is ABORTED: wrong data"}},
            "training 1 on r: ABORTED: the job is ABORTED: wrong data",
        ),
    ],
)
def test_each_state_is_shown_with_its_cause(records: MemoryRecords, item: dict[str, Any], line: str) -> None:
    records.update(PK, layout.LEASE, {"fencing": 1, "rig": "r", "agent": "a", **item})
    assert shown(records) == line


def test_every_state_is_one_that_a_person_can_see() -> None:
    """DESIGN: QUEUED, LEASED, RUNNING, SUCCEEDED, FAILED, LOST, ABORTED."""
    assert [state.value for state in AttemptState] == [
        "QUEUED",
        "LEASED",
        "RUNNING",
        "SUCCEEDED",
        "FAILED",
        "LOST",
        "ABORTED",
    ]
