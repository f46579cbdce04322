from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from workflow_world import World

from isthmus.adapters.local.queue import MemoryTasks
from isthmus.errors import AttemptLost, Conflict
from isthmus.model import layout
from isthmus.model.messages import AttemptState, Outcome, Work
from isthmus.rig import lease
from isthmus.workflows.explain_failure import explain
from isthmus.workflows.train_on_rig import finish_attempt, train_on_rig

KEY = "a" * 40


def take(world: World, fencing: int, rig: str = "rig-1") -> None:
    work = Work(job_key=KEY, fencing=fencing, job="", manifest="", token="wait", execution="e")
    assert lease.take(work, rig, world.records) == "fresh"


def commit(world: World, fencing: int, **outcome: Any) -> None:
    assert lease.commit(KEY, fencing, "rig-1", Outcome(**outcome), world.records)


def finish(world: World, fencing: int, tasks: MemoryTasks) -> bool:
    return finish_attempt(KEY, fencing, records=world.records, tasks=tasks).delivered


def test_the_token_goes_into_the_lease(world: World) -> None:
    take(world, 1)
    train_on_rig(KEY, 1, "train", records=world.records, tasks=MemoryTasks())
    assert world.lease(KEY)["token"] == "train"
    assert world.lease(KEY)["state"] == AttemptState.RUNNING


def test_a_token_for_a_lease_that_is_gone_is_a_lost_attempt(world: World) -> None:
    with pytest.raises(AttemptLost):
        train_on_rig(KEY, 1, "train", records=world.records, tasks=MemoryTasks())
    take(world, 2)
    with pytest.raises(AttemptLost, match="attempt 1 "):
        train_on_rig(KEY, 1, "train", records=world.records, tasks=MemoryTasks())
    assert world.lease(KEY)["token"] == ""


def test_a_token_that_comes_after_the_outcome_is_a_lost_attempt(world: World) -> None:
    take(world, 1)
    commit(world, 1, state=AttemptState.LOST, cause="EnvironmentProblem: no space")
    with pytest.raises(AttemptLost):
        train_on_rig(KEY, 1, "train", records=world.records, tasks=MemoryTasks())


def test_a_success_that_nobody_waited_for_answers_the_redriven_training(world: World) -> None:
    tasks = MemoryTasks()
    take(world, 1)
    train_on_rig(KEY, 1, tasks.open("first"), records=world.records, tasks=tasks)
    commit(world, 1, state=AttemptState.SUCCEEDED, output="jobs/x/", seconds=12.5)
    train_on_rig(KEY, 1, tasks.open("redriven"), records=world.records, tasks=tasks)
    assert tasks.answers["redriven"] == ("succeeded", {"output": "jobs/x/", "fencing": 1, "seconds": 12.5})


def test_a_failure_is_not_delivered_to_the_redriven_training(world: World) -> None:
    tasks = MemoryTasks()
    take(world, 1)
    commit(world, 1, state=AttemptState.FAILED, exit_code=1)
    with pytest.raises(AttemptLost):
        train_on_rig(KEY, 1, tasks.open("redriven"), records=world.records, tasks=tasks)
    assert tasks.answers == {}


@pytest.mark.parametrize("state", [AttemptState.SUCCEEDED, AttemptState.LOST])
def test_what_ended_and_how_long_it_took_is_told(world: World, state: AttemptState) -> None:
    tasks = MemoryTasks()
    take(world, 1)
    train_on_rig(KEY, 1, tasks.open("t"), records=world.records, tasks=tasks)
    commit(world, 1, state=state, seconds=12.5)
    for delivered in (True, False):
        done = finish_attempt(KEY, 1, records=world.records, tasks=tasks)
        assert (done.delivered, done.state, done.seconds) == (delivered, state, 12.5)


def test_success_is_delivered_once(world: World) -> None:
    tasks = MemoryTasks()
    take(world, 1)
    train_on_rig(KEY, 1, tasks.open("train"), records=world.records, tasks=tasks)
    commit(world, 1, state=AttemptState.SUCCEEDED, output="jobs/x/", seconds=12.5)
    assert finish(world, 1, tasks)
    assert not finish(world, 1, tasks), "answered before"
    assert tasks.answers["train"] == ("succeeded", {"output": "jobs/x/", "fencing": 1, "seconds": 12.5})


def test_a_stale_attempt_answers_nobody(world: World) -> None:
    tasks = MemoryTasks()
    take(world, 1)
    train_on_rig(KEY, 1, tasks.open("train-1"), records=world.records, tasks=tasks)
    take(world, 2)
    train_on_rig(KEY, 2, tasks.open("train-2"), records=world.records, tasks=tasks)
    with pytest.raises(Conflict):
        finish(world, 1, tasks)
    with pytest.raises(Conflict):
        finish(world, 2, tasks)
    commit(world, 2, state=AttemptState.SUCCEEDED)
    with pytest.raises(Conflict):
        finish(world, 1, tasks)
    assert tasks.answers == {}, "the second attempt's outcome is not reported in the first one's name"


class NoEmptyTokens(MemoryTasks):
    """As Step Functions' API: a token has at least one character."""

    def fail(self, token: str, error: str, cause: str) -> None:
        assert token, "an empty token is refused as a malformed request, which a rig would repeat for ever"
        super().fail(token, error, cause)


def test_an_outcome_before_any_token_has_nobody_to_tell(world: World) -> None:
    take(world, 1)
    commit(world, 1, state=AttemptState.LOST, cause="EnvironmentProblem: no space")
    assert not finish(world, 1, NoEmptyTokens())


@pytest.mark.parametrize(
    ("state", "error"), [(AttemptState.FAILED, "TrainingFailed"), (AttemptState.LOST, "AttemptLost")]
)
def test_a_failure_names_whose_fault_it_was(world: World, state: AttemptState, error: str) -> None:
    tasks = MemoryTasks()
    take(world, 1)
    train_on_rig(KEY, 1, tasks.open("train"), records=world.records, tasks=tasks)
    tail = 'exit code 3\nTraceback …\nValueError: labels must be 0..9, got "cat"'
    commit(world, 1, state=state, exit_code=3, cause=tail)
    assert finish(world, 1, tasks)
    kind, (name, cause) = tasks.answers["train"]
    assert (kind, name) == ("failed", error)
    assert json.loads(cause)["exit_code"] == 3
    said = explain({"Error": name, "Cause": cause})[1]
    assert said.startswith("the training script ended with exit code 3\nTraceback")
    assert said.endswith('ValueError: labels must be 0..9, got "cat"')


def test_a_committed_outcome_is_not_overwritten(world: World) -> None:
    take(world, 1)
    commit(world, 1, state=AttemptState.SUCCEEDED)
    other = Outcome(state=AttemptState.FAILED)
    assert not lease.commit(KEY, 1, "rig-1", other, world.records)
    stored = world.records.get(layout.job_pk(KEY), layout.LEASE)
    assert stored is not None
    assert msgspec.convert(stored["outcome"], Outcome).state is AttemptState.SUCCEEDED
