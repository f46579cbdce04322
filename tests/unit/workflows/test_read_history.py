from __future__ import annotations

import json
from typing import Any

import pytest

from isthmus.model.execution import Failure
from isthmus.workflows.read_history import ending, visits


class History:
    """Events as Step Functions gives them, a second apart."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.add("ExecutionStarted", previous=0)

    def add(self, kind: str, *, previous: int | None = None, **details: Any) -> int:
        number = len(self.events) + 1
        name = kind[0].lower() + kind[1:] + "EventDetails"
        if kind.endswith(("StateEntered", "StateExited")):
            name = "state" + kind.split("State")[1] + "EventDetails"
        before = number - 1 if previous is None else previous
        event = {"id": number, "previousEventId": before, "type": kind, "timestamp": 1000.0 + number}
        self.events.append({**event, name: details} if details else event)
        return number

    def task(self, state: str) -> None:
        self.add("TaskStateEntered", name=state)
        self.add("TaskScheduled", resource="invoke")

    def done(self, state: str) -> None:
        self.add("TaskSucceeded", output="{}")
        self.add("TaskStateExited", name=state)


def failed_once() -> History:
    """First succeeds; Second fails, is retried, fails again, and ends the execution."""
    history = History()
    history.task("First")
    history.done("First")
    history.task("Second")
    cause = json.dumps({"errorMessage": "no such table", "errorType": "Boom"})
    history.add("TaskFailed", error="Boom", cause=cause)
    history.add("TaskScheduled", resource="invoke")
    history.add("TaskFailed", error="Boom", cause=cause)
    history.add("ExecutionFailed", error="Boom", cause=cause)
    return history


def test_each_stay_has_its_times_its_attempts_and_its_reasons() -> None:
    first, second = visits(failed_once().events)
    assert (first.state, first.outcome, first.attempts, first.failures) == ("First", "succeeded", 1, ())
    assert (first.entered_seconds, first.left_seconds) == (1.0, 4.0)
    assert (second.state, second.outcome, second.attempts) == ("Second", "failed", 2)
    assert second.failures[0] == Failure(at_seconds=7.0, error="Boom", cause="no such table")
    assert len(second.failures) == 2, "the end of the execution says again what failed the task"


@pytest.mark.parametrize("entered", [True, False], ids=["entered again", "scheduled again"])
def test_a_redrive_goes_on_with_a_stay_of_its_own(entered: bool) -> None:
    history = failed_once()
    redriven = history.add("ExecutionRedriven", redriveCount=1)
    again = history.add("TaskStateEntered", name="Second") if entered else redriven
    scheduled = history.add("TaskScheduled", previous=again, resource="invoke")
    running = visits(history.events)[-1]
    assert (running.state, running.type, running.outcome) == ("Second", "Task", "running")
    assert (running.attempts, running.failures, running.left_seconds) == (1, (), None)
    history.add("TaskStarted", previous=scheduled)
    history.done("Second")
    history.add("SucceedStateEntered", name="End")
    history.add("SucceedStateExited", name="End")
    history.add("ExecutionSucceeded", output="{}")
    found = [(visit.state, visit.outcome, visit.redrive) for visit in visits(history.events)]
    assert found == [
        ("First", "succeeded", 0),
        ("Second", "failed", 0),
        ("Second", "succeeded", 1),
        ("End", "succeeded", 1),
    ]


@pytest.mark.parametrize("previous", ["redriven", "scheduled", "nothing"])
def test_a_redriven_task_runs_whatever_event_it_refers_to(previous: str) -> None:
    history = failed_once()
    last_try = max(event["id"] for event in history.events if event["type"] == "TaskScheduled")
    redriven = history.add("ExecutionRedriven", redriveCount=1)
    refers = {"redriven": redriven, "scheduled": last_try, "nothing": 0}[previous]
    history.add("TaskScheduled", previous=refers, resource="invoke")
    _, second, again = visits(history.events)
    assert (second.outcome, second.attempts, second.redrive) == ("failed", 2, 0)
    assert (again.state, again.outcome, again.redrive) == ("Second", "running", 1)


def test_a_second_redrive_opens_another_stay() -> None:
    history = failed_once()
    for count in (1, 2):
        history.add("ExecutionRedriven", redriveCount=count)
        history.add("TaskScheduled", resource="invoke")
        history.add("ExecutionFailed", error="Boom", cause="again")
    found = [(visit.state, visit.outcome, visit.redrive) for visit in visits(history.events)]
    assert found[1:] == [("Second", "failed", 0), ("Second", "failed", 1), ("Second", "failed", 2)]


def test_a_failure_that_is_caught_is_not_the_end() -> None:
    history = History()
    history.task("Train")
    history.add("TaskTimedOut", error="States.HeartbeatTimeout")
    history.add("TaskStateExited", name="Train")
    history.add("PassStateEntered", name="Count")
    train, count = visits(history.events)
    assert (train.outcome, train.failures[0].error) == ("caught", "States.HeartbeatTimeout")
    assert "fell silent" not in train.failures[0].cause, "the state of the pipeline is called TrainOnRig"
    assert (count.outcome, count.left_seconds) == ("running", None)


def test_a_stop_refers_to_no_event_and_ends_the_last_state() -> None:
    history = History()
    history.task("Wait")
    history.add("ExecutionAborted", previous=0, error="Enough", cause="by hand")
    (wait,) = visits(history.events)
    assert (wait.outcome, wait.failures) == ("stopped", ())
    said = ending(reversed(history.events))
    assert (said.state, said.error, said.cause) == ("Wait", "Enough", "by hand")


def test_events_of_branches_belong_to_the_state_that_they_come_from() -> None:
    history = History()
    left = history.add("TaskStateEntered", name="Left")
    right = history.add("TaskStateEntered", name="Right", previous=1)
    scheduled = history.add("TaskScheduled", previous=left, resource="invoke")
    history.add("TaskFailed", previous=scheduled, error="Boom", cause="left")
    history.add("TaskScheduled", previous=right, resource="invoke")
    found = {visit.state: visit for visit in visits(history.events)}
    assert [failure.cause for failure in found["Left"].failures] == ["left"]
    assert (found["Right"].attempts, found["Right"].failures) == (1, ())


def test_a_nested_execution_is_named() -> None:
    history = History()
    history.task("DeployCloud")
    history.add("TaskSubmitted", output=json.dumps({"ExecutionArn": "arn:child"}))
    assert visits(history.events)[0].nested == "arn:child"
    history.add("TaskSubmitted", output="not JSON")
    assert visits(history.events)[0].nested == "arn:child"


def test_the_ending_is_read_from_the_last_events_alone() -> None:
    read = 0

    def newest_first() -> Any:
        nonlocal read
        for event in reversed(failed_once().events):
            read += 1
            yield event

    said = ending(newest_first())
    assert (said.state, said.error) == ("Second", "Boom")
    assert read == 6
    assert ending([]).state == ""
