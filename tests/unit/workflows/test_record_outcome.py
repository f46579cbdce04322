from __future__ import annotations

import json
from typing import Any

import pytest
from workflow_world import NOW, World

from isthmus.adapters.local.events import MemoryEvents
from isthmus.model import layout
from isthmus.workflows.record_outcome import MAX_CAUSE_CHARACTERS, explain, from_status_change, record_outcome

KEY = "a" * 40
LAMBDA = json.dumps(
    {"errorMessage": "test/x.npy is not in the bucket", "errorType": "MissingFile", "stackTrace": ["…"]}
)
RIG = json.dumps({"state": "FAILED", "exit_code": 1, "cause": "exit code 1\nKeyError: 'label'"})


def nested(error: str, cause: str) -> str:
    return json.dumps({"ExecutionArn": "arn", "Status": "FAILED", "Error": error, "Cause": cause})


@pytest.mark.parametrize(
    ("failure", "error", "cause"),
    [
        ({"Error": "MissingFile", "Cause": LAMBDA}, "MissingFile", "test/x.npy is not in the bucket"),
        (
            {"Error": "States.TaskFailed", "Cause": nested("MissingFile", LAMBDA)},
            "MissingFile",
            "test/x.npy is not in the bucket",
        ),
        (
            {
                "Error": "States.TaskFailed",
                "Cause": nested("States.TaskFailed", nested("ProofFailed", "differs")),
            },
            "ProofFailed",
            "differs",
        ),
        (
            {"Error": "TrainingFailed", "Cause": RIG, "At": "TrainOnRig"},
            "TrainingFailed",
            "the training script ended with exit code 1\nKeyError: 'label'",
        ),
        (
            {
                "Error": "AttemptLost",
                "Cause": json.dumps({"exit_code": None, "cause": "EnvironmentProblem: no disk"}),
            },
            "AttemptLost",
            "EnvironmentProblem: no disk",
        ),
        (
            {"Error": "States.Timeout", "Cause": "", "At": "TrainOnRig"},
            "States.Timeout",
            "the training did not end within its deadline",
        ),
        ({"Error": "Boom", "Cause": "plain text"}, "Boom", "plain text"),
        ({"Error": "Boom", "Cause": "[1, 2]"}, "Boom", "[1, 2]"),
        ({}, "", ""),
    ],
    ids=["lambda", "nested", "nested twice", "script", "lost", "deadline", "plain", "not a mapping", "none"],
)
def test_a_failure_is_explained_out_of_its_wrapping(failure: dict[str, Any], error: str, cause: str) -> None:
    assert explain(failure) == (error, cause)


@pytest.mark.parametrize(
    ("at", "error", "said"),
    [
        ("WaitForRig", "States.Timeout", "is the rig's agent running?"),
        ("TrainOnRig", "States.HeartbeatTimeout", "fell silent"),
    ],
)
def test_timeouts_say_what_they_mean(at: str, error: str, said: str) -> None:
    assert said in explain({"Error": error, "Cause": "", "At": at})[1]


def test_a_long_cause_keeps_its_end_and_its_heading() -> None:
    tail = "x" * 20_000 + "ValueError: the last line"
    cause = json.dumps({"exit_code": 2, "cause": f"exit code 2\n{tail}"})
    said = explain({"Error": "TrainingFailed", "Cause": cause})[1]
    assert said.startswith("the training script ended with exit code 2\n")
    assert said.endswith("ValueError: the last line")
    assert len(said) < MAX_CAUSE_CHARACTERS + 100


def test_the_outcome_is_recorded_and_published_with_both_scores(world: World) -> None:
    events = MemoryEvents()
    scores = {"candidate": 0.9, "champion": 0.95, "accepted": False, "reason": "worse"}
    facts = {"model": "digits", "dataset": "digits", "evaluation": scores, "started_at": NOW}
    world.records.update(layout.job_pk(KEY), layout.STATE, facts)
    outcome = record_outcome(KEY, "REJECTED", None, records=world.records, events=events, now=NOW)
    assert (outcome.state, outcome.error) == ("REJECTED", "")
    assert world.state(KEY)["state"] == "REJECTED"
    assert world.state(KEY)["ended_at"] == NOW
    (kind, detail) = events.published[0]
    assert kind == "isthmus job rejected"
    assert detail["evaluation"] == scores
    assert detail["job_key"] == KEY


def test_a_failure_before_registering_is_recorded_too(world: World) -> None:
    events = MemoryEvents()
    failure = {"Error": "InvalidManifest", "Cause": LAMBDA}
    record_outcome(KEY, "FAILED", failure, records=world.records, events=events, now=NOW)
    assert world.state(KEY)["error"] == "InvalidManifest"
    assert events.published[0][0] == "isthmus job failed"


def test_a_stopped_execution_is_an_end_of_its_own() -> None:
    detail = {"name": "a" * 40 + "-1", "status": "ABORTED", "cause": "the data was wrong"}
    assert from_status_change(detail) == {
        "job_key": "a" * 40,
        "state": "ABORTED",
        "unless_ended": False,
        "failure": {"Error": "Execution.ABORTED", "Cause": "the data was wrong"},
    }
    timed_out = from_status_change({"name": "b" * 40, "status": "TIMED_OUT"})
    assert (timed_out["state"], timed_out["failure"]["Cause"]) == ("FAILED", "the execution timed out")
