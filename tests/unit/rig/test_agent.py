from __future__ import annotations

import dataclasses
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rig_world import KEY, LEAVES_A_MODEL, FinishAttempt, FlakyRecords, StepFunctions, World

from isthmus.adapters.local.blobs import DirectoryBlobStore
from isthmus.adapters.local.queue import ManualClock, MemoryQueue
from isthmus.adapters.local.records import MemoryRecords
from isthmus.errors import EnvironmentProblem, PermissionMissing, Unavailable
from isthmus.model import layout
from isthmus.model.job import Training
from isthmus.model.messages import AttemptState, Outcome
from isthmus.ports import Item, TrainingRun
from isthmus.rig import lease
from isthmus.rig.agent import Agent
from isthmus.rig.contract import Layout
from isthmus.rig.identity import agent_id
from isthmus.rig.runner import TrainingRequest
from isthmus.rig.waiting import CLAIM_SECONDS
from isthmus.rig.warden import kill_run

Play = Callable[[TrainingRequest, threading.Event], int]


class StageRunner:
    """A runner that plays a given part instead of a training."""

    def __init__(self, play: Play) -> None:
        self._play = play
        self.requests: list[TrainingRequest] = []
        self.warmed = False

    def check(self, training: Training) -> None:
        """It runs everything."""

    def warm(self) -> None:
        self.warmed = True

    def close(self) -> None:
        """It holds nothing."""

    def end(self, run_id: str) -> int:
        return kill_run(run_id)

    def run(self, request: TrainingRequest, stop: threading.Event) -> TrainingRun:
        self.requests.append(request)
        folders = Layout(request.work)
        code = self._play(request, stop)
        (folders.model / "model.onnx").write_bytes(b"model")
        folders.log.write_text("epoch=1\n")
        return TrainingRun(code, "last line", {"loss": 0.5}, folders.root, 1.5, stop.is_set())


def succeed(request: TrainingRequest, stop: threading.Event) -> int:
    return 0


def agent(world: World, play: Play = succeed) -> tuple[Agent, StageRunner]:
    runner = StageRunner(play)
    return Agent(world.settings, world.services, runner, world.report), runner


def answer(world: World, fencing: int = 1) -> tuple[str, Any]:
    return world.tasks.answers[f"train-{fencing}"]


def test_an_attempt_is_taken_trained_committed_and_reported(world: World) -> None:
    world.put_job({"train.py": ""})
    world.send()
    rig, runner = agent(world)
    outcome = rig.step()
    assert outcome is not None
    assert outcome.state is AttemptState.SUCCEEDED
    assert world.tasks.answers["wait-1"] == ("succeeded", {"rig": "rig-1", "fencing": 1})
    prefix = layout.attempt_output(KEY, 1)
    assert answer(world) == ("succeeded", {"output": prefix, "fencing": 1, "seconds": 1.5})
    assert world.lease()["outcome"]["metrics"] == {"loss": 0.5}
    listed = json.loads(world.blobs.get(f"{prefix}output.json", max_bytes=10_000))
    assert [file["path"] for file in listed["files"]] == ["model.onnx", "metrics.json", "train.log"]
    assert all(world.blobs.sha256(prefix + file["path"]) == file["sha256"] for file in listed["files"])
    assert not world.queue.in_flight
    assert sorted(runner.requests[0].channels) == ["test", "train"]
    assert not list((world.settings.folder / "attempts").iterdir())


def test_the_data_lies_in_its_channels_and_is_fetched_once_for_two_attempts(world: World) -> None:
    seen: list[str] = []

    def look(request: TrainingRequest, stop: threading.Event) -> int:
        seen.append((request.channels["train"] / "a.csv").read_text())
        return 0

    world.put_job({"train.py": ""})
    rig, _ = agent(world, look)
    world.send(1)
    rig.step()
    for info in list(world.blobs.keys(layout.dataset_folder("digits"))):
        (world.folder / "bucket" / info.key).unlink()
    world.send(2)
    rig.step()
    assert seen == ["1,2\n", "1,2\n"]
    assert answer(world, 2)[0] == "succeeded"


def test_a_failing_script_fails_the_task_with_its_last_lines(world: World) -> None:
    world.put_job({"train.py": ""})
    world.send()
    agent(world, lambda request, stop: 3)[0].step()
    kind, (error, cause) = answer(world)
    assert (kind, error) == ("failed", "TrainingFailed")
    assert json.loads(cause) == {"state": "FAILED", "exit_code": 3, "cause": "exit code 3\nlast line"}
    assert world.blobs.info(f"{layout.attempt_output(KEY, 1)}train.log") is not None


def test_wrong_bytes_fail_the_job_and_nothing_is_trained(world: World) -> None:
    world.put_job({"train.py": ""})
    world.blobs.put("code.zip", b"other bytes")
    world.send()
    rig, runner = agent(world)
    rig.step()
    assert runner.requests == []
    assert "DigestMismatch: code.zip has the SHA-256" in answer(world)[1][1]


def test_what_this_machine_lacks_is_a_lost_attempt_not_the_scripts_fault(world: World) -> None:
    def lack(request: TrainingRequest, stop: threading.Event) -> int:
        raise EnvironmentProblem("no working uv was found")

    world.put_job({"train.py": ""})
    world.send()
    agent(world, lack)[0].step()
    assert answer(world)[1][0] == "AttemptLost"


def test_a_message_delivered_twice_is_trained_once(world: World) -> None:
    world.put_job({"train.py": ""})
    work = world.send()
    world.queue.send(work)
    rig, runner = agent(world)
    assert rig.step() is not None
    assert rig.step() is None
    assert len(runner.requests) == 1
    assert not world.queue.in_flight


def test_a_superseded_message_is_dropped(world: World) -> None:
    world.put_job({"train.py": ""})
    world.send(1)
    world.queue.receive(wait_seconds=0)
    world.send(2)
    rig, runner = agent(world)
    rig.step()
    world.queue.redeliver()
    assert rig.step() is None
    assert [request.name[-2:] for request in runner.requests] == ["-2"]


def test_work_that_nobody_waits_for_any_more_is_dropped(world: World) -> None:
    world.put_job({"train.py": ""})
    work = world.send()
    world.tasks.close(work.token)
    rig, runner = agent(world)
    assert rig.step() is None
    assert runner.requests == []
    assert not world.queue.in_flight


class LosesTheDelete(MemoryQueue):
    """The first deletion of a message never arrives."""

    lost = False

    def delete(self, receipt: str) -> None:
        if not self.lost:
            self.lost = True
            raise Unavailable("the queue did not answer")
        super().delete(receipt)


def test_a_redelivery_after_the_wait_was_answered_is_taken_over(world: World) -> None:
    world.put_job({"train.py": ""})
    world.queue = LosesTheDelete()
    world.send()
    rig, runner = agent(world)
    assert rig.step() is None
    world.queue.redeliver()
    assert rig.step() is not None
    assert len(runner.requests) == 1
    assert answer(world)[0] == "succeeded"


class DiesAt(MemoryRecords):
    """The process dies (nothing below it runs any more) when it comes to this write; or the write alone fails."""

    def __init__(self, write: str, sk: str, how: BaseException | None = None) -> None:
        super().__init__()
        self.how = how or KeyboardInterrupt()
        self.at: tuple[str, str] | None = (write, sk)

    def _die_at(self, write: str, sk: str) -> None:
        if self.at and self.at[0] == write and sk.startswith(self.at[1]):
            self.at = None
            raise self.how

    def create(self, item: Item) -> bool:
        self._die_at("create", item["sk"])
        return super().create(item)

    def update(self, pk: str, sk: str, values: Mapping[str, Any], **conditions: Any) -> None:
        self._die_at("update", sk)
        super().update(pk, sk, values, **conditions)

    def delete(self, pk: str, sk: str, **conditions: Any) -> None:
        self._die_at("delete", sk)
        super().delete(pk, sk, **conditions)


class DiesBeforeAnswer(StepFunctions):
    """The process dies before the wait for a rig is answered, once."""

    died = False

    def succeed(self, token: str, output: Mapping[str, Any]) -> None:
        if not self.died:
            self.died = True
            raise KeyboardInterrupt
        super().succeed(token, output)


def taking_dies_at(world: World, where: str) -> None:
    writes = {
        "claim": ("update", layout.WORK),
        "lease": ("create", "LEASE"),
        "turn": ("update", layout.TURN),
        "removal": ("delete", layout.WORK),
    }
    # These two are made while the training starts: whoever dies then has not come to them.
    how = Unavailable("no route") if where in ("turn", "removal") else None
    if where == "answer":
        world.tasks = DiesBeforeAnswer(world.records)
    else:
        world.records = DiesAt(*writes[where], how)  # type: ignore[assignment]
        world.tasks = StepFunctions(world.records)
    world.reporter = FinishAttempt(world.records, world.tasks)


@pytest.mark.parametrize("where", ["claim", "lease", "answer"])
def test_a_death_before_the_journal_costs_nothing(world: World, where: str) -> None:
    """The attempt still waits, claimed by this very agent: the next life takes it at once."""
    taking_dies_at(world, where)
    world.put_job({"train.py": ""})
    world.send()
    with pytest.raises(KeyboardInterrupt):
        agent(world)[0].step()
    rig, runner = agent(world)
    rig.recover()
    assert rig.step() is not None
    assert answer(world)[0] == "succeeded"
    assert rig.step() is None
    assert len(runner.requests) == 1


@pytest.mark.parametrize("where", ["turn", "removal"])
def test_a_death_after_the_journal_ends_the_attempt_and_drops_what_waits(world: World, where: str) -> None:
    def die(request: TrainingRequest, stop: threading.Event) -> int:
        world.wait_for(lambda: any(event == "left where it waited" for event, _ in world.events))
        raise KeyboardInterrupt

    taking_dies_at(world, where)
    world.put_job({"train.py": ""})
    world.send()
    with pytest.raises(KeyboardInterrupt):
        agent(world, die)[0].step()
    assert len(world.records.query(layout.waiting_pk("rig-1"), prefix=layout.WORK)) == 1
    rig, runner = agent(world)
    rig.recover()
    assert answer(world)[1][0] == "AttemptLost"
    assert rig.step() is None
    assert runner.requests == []
    assert world.records.query(layout.waiting_pk("rig-1"), prefix=layout.WORK) == []


def test_what_was_withdrawn_is_dropped_on_the_way_and_costs_no_turn(world: World) -> None:
    """Two teams: the attempts of the one whose turn it is were withdrawn, all but the last."""
    world.put_job({"train.py": ""})
    for fencing in (1, 2, 3):
        world.send(fencing, team="a")
    world.send(4, team="b")
    for fencing in (1, 2):
        world.tasks.close(f"wait-{fencing}")
    rig, runner = agent(world)
    assert rig.step() is not None
    assert [request.name[-2:] for request in runner.requests] == ["-3"]
    assert [fields["team"] for event, fields in world.events if event == "work taken"] == ["a"]


class SilentDelete(FlakyRecords):
    """Deletes nothing while ``silent``."""

    silent = True

    def delete(self, pk: str, sk: str, **conditions: Any) -> None:
        if self.silent:
            raise Unavailable("no route")
        super().delete(pk, sk, **conditions)


def test_what_cannot_be_struck_off_the_list_is_run_once(world: World) -> None:
    records = with_silent_deletes(world)
    world.put_job({"train.py": ""})
    world.send()
    rig, runner = agent(world)
    assert rig.step() is not None
    assert rig.step() is None, "it is found again, and dropped when the table answers"
    records.silent = False
    assert rig.step() is None
    assert len(runner.requests) == 1
    assert records.query(layout.waiting_pk("rig-1"), prefix=layout.WORK) == []


def test_a_second_agent_never_runs_what_the_first_one_runs(world: World, tmp_path: Path) -> None:
    """The queue delivers a message again, to another agent of this rig, while the first one trains."""
    other = dataclasses.replace(world.settings, folder=tmp_path / "other")

    def train(request: TrainingRequest, stop: threading.Event) -> int:
        world.queue.send(work)
        second = StageRunner(succeed)
        assert Agent(other, world.services, second, world.report).step() is None
        assert second.requests == []
        return 0

    world.put_job({"train.py": ""})
    work = world.send()
    assert agent(world, train)[0].step() is not None
    assert answer(world)[0] == "succeeded"


def with_silent_deletes(world: World) -> SilentDelete:
    world.records = records = SilentDelete()
    world.tasks = StepFunctions(records)
    world.reporter = FinishAttempt(records, world.tasks)
    return records


LATER: list[dict[str, int]] = [{"redrives": 1}, {"retries": 1}]


@pytest.mark.parametrize("later", LATER)
def test_what_was_withdrawn_never_runs_and_its_next_message_does(world: World, later: dict[str, int]) -> None:
    """It cannot be struck off the list at first, so it is found there again."""
    records = with_silent_deletes(world)
    world.put_job({"train.py": ""})
    work = world.send()
    world.tasks.close(work.token)
    rig, runner = agent(world)
    assert rig.step() is None
    records.silent = False
    assert rig.step() is None
    assert (runner.requests, world.lease()["state"]) == ([], "ABORTED")
    assert not [event for event, _ in world.events if event == "attempt started"]
    world.queue.send(msgspec.structs.replace(work, token=world.tasks.open("wait-again"), **later))
    assert rig.step() is not None
    assert (len(runner.requests), answer(world)[0]) == (1, "succeeded")


@pytest.mark.parametrize("later", LATER)
def test_an_attempt_whose_token_never_came_does_not_block_its_redrive(
    world: World, later: dict[str, int]
) -> None:
    """The agent died between the lease and the answer; by its next life the execution had ended."""
    world.settings = dataclasses.replace(world.settings, token_seconds=0.05)
    taking_dies_at(world, "answer")
    world.put_job({"train.py": ""})
    work = world.send()
    with pytest.raises(KeyboardInterrupt):
        agent(world)[0].step()
    world.tasks.close(work.token)
    rig, runner = agent(world)
    outcome = rig.step()
    assert (outcome and outcome.state, runner.requests) == (AttemptState.LOST, [])
    world.queue.send(msgspec.structs.replace(work, token=world.tasks.open("wait-again"), **later))
    assert rig.step() is not None
    assert (len(runner.requests), answer(world)[0]) == (1, "succeeded")


def test_an_agent_whose_attempt_another_took_over_does_not_train_it(world: World, tmp_path: Path) -> None:
    """It died before it answered; another trains when it is back, and the queue delivers once more."""
    taking_dies_at(world, "answer")
    world.put_job({"train.py": ""})
    work = world.send()
    with pytest.raises(KeyboardInterrupt):
        agent(world)[0].step()

    def train(request: TrainingRequest, stop: threading.Event) -> int:
        world.queue.send(work)
        first, runner = agent(world)
        first.recover()
        assert first.step() is None
        assert runner.requests == []
        return 0

    later = ManualClock(ManualClock().now() + CLAIM_SECONDS + 1)
    other = dataclasses.replace(world.settings, folder=tmp_path / "other")
    second = Agent(other, dataclasses.replace(world.services, clock=later), StageRunner(train), world.report)
    assert second.step() is not None
    assert answer(world)[0] == "succeeded"


class AnswersSecond(StepFunctions):
    """Another agent of the rig answers first, and puts its name into the lease."""

    def succeed(self, token: str, output: Mapping[str, Any]) -> None:
        self._records.update(layout.job_pk(KEY), layout.LEASE, {"agent": "other"})
        self.close(token)
        super().succeed(token, output)


def test_who_answers_second_does_not_train_what_it_had_taken_in_an_earlier_life(world: World) -> None:
    world.tasks = AnswersSecond(world.records)
    world.put_job({"train.py": ""})
    work = world.send()
    assert lease.take(work, "rig-1", world.records, agent_id(world.settings.folder)) == "fresh"
    rig, runner = agent(world)
    assert rig.step() is None
    assert runner.requests == []
    assert (world.lease()["agent"], world.lease()["outcome"]) == ("other", None)


def test_an_agent_stops_training_what_another_took_over(world: World) -> None:
    def train(request: TrainingRequest, stop: threading.Event) -> int:
        world.records.update(layout.job_pk(KEY), layout.LEASE, {"agent": "other"})
        assert stop.wait(20)
        return 143

    world.put_job({"train.py": ""}, offline_tolerance_seconds=3)
    world.send()
    outcome = agent(world, train)[0].step()
    assert outcome is not None
    assert (outcome.state, outcome.cause) == (
        AttemptState.LOST,
        "agent other of this rig took the attempt over",
    )
    assert (world.lease()["outcome"], world.reporter.delivered) == (None, [])


def test_work_arrives_on_the_list_while_a_training_runs(world: World) -> None:
    def train(request: TrainingRequest, stop: threading.Event) -> int:
        if not listed:
            world.send(2)
            world.wait_for(lambda: ("work waits", 2) in [(e, f.get("fencing")) for e, f in world.events])
            listed.append(True)
        else:
            rig.drain()
        return 0

    listed: list[bool] = []
    world.put_job({"train.py": ""})
    world.send(1)
    rig, runner = agent(world, train)
    rig.run()
    assert [request.name[-2:] for request in runner.requests] == ["-1", "-2"]


def idles(world: World, rig: Agent) -> Callable[[], None]:
    """Start an agent that finds nothing; return once it wants a message by hand."""
    looked = threading.Event()
    world.records.query = watched(world.records.query, looked)  # type: ignore[method-assign]
    thread = threading.Thread(target=rig.run)
    thread.start()
    assert looked.wait(20)
    return thread.join


def watched(query: Callable[..., Any], looked: threading.Event) -> Callable[..., Any]:
    """The third look (one asks whether the list answers, one is of the start) is the idle agent's."""
    looks = []

    def look(*arguments: Any, **options: Any) -> Any:
        looks.append(arguments)
        if len(looks) > 2:
            looked.set()
        return query(*arguments, **options)

    return look


def test_an_idle_agent_gets_a_message_by_hand(world: World) -> None:
    """It needs no place on a list where nothing waits."""

    def train(request: TrainingRequest, stop: threading.Event) -> int:
        listed.append(world.records.query(layout.waiting_pk("rig-1"), prefix=layout.WORK))
        rig.drain()
        return 0

    listed: list[Any] = []
    world.put_job({"train.py": ""})
    rig, runner = agent(world, train)
    join = idles(world, rig)
    world.send()
    join()
    assert listed == [[]]
    assert not any(event == "work waits" for event, _ in world.events)
    assert world.queue.in_flight == {}
    assert answer(world)[0] == "succeeded"
    assert runner.warmed


def test_a_message_by_hand_goes_on_the_list_when_something_is_in_the_way(world: World) -> None:
    world.put_job({"train.py": ""})

    def train(request: TrainingRequest, stop: threading.Event) -> int:
        rig.drain()
        return 0

    rig, runner = agent(world, train)
    join = idles(world, rig)
    # The lease cannot be taken; the list takes the message a moment later.
    world.records.offline.set()
    world.queue.redeliver()
    world.send()
    world.wait_for(lambda: any(event == "no work" for event, _ in world.events))
    world.records.offline.clear()
    world.queue.redeliver()
    join()
    assert answer(world)[0] == "succeeded"
    assert len(runner.requests) == 1


def train_until_stopped(world: World, marks: dict[str, Any]) -> Play:
    """The execution ends while it trains; the rule on its end then marks the job."""

    def train(request: TrainingRequest, stop: threading.Event) -> int:
        world.tasks.close(world.tasks.handed_out[-1])
        world.records.update(layout.job_pk(KEY), layout.STATE, marks)
        assert stop.wait(20)
        return 143

    return train


def test_an_abort_stops_the_training_and_says_who_stopped_it(world: World) -> None:
    world.put_job({"train.py": ""}, offline_tolerance_seconds=3)
    world.send()
    marks = {"state": "ABORTED", "cause": "stopped by isthmus job stop"}
    outcome = agent(world, train_until_stopped(world, marks))[0].step()
    assert outcome is not None
    assert (outcome.state, outcome.cause) == (
        AttemptState.ABORTED,
        "the job is ABORTED: stopped by isthmus job stop",
    )
    assert world.lease()["outcome"]["cause"] == outcome.cause
    assert world.lease()["state"] == "ABORTED"
    assert world.reporter.delivered == []
    assert world.blobs.info(f"{layout.attempt_output(KEY, 1)}output.json") is None


def test_an_execution_that_waits_no_more_without_a_stop_loses_the_attempt(world: World) -> None:
    world.put_job({"train.py": ""}, offline_tolerance_seconds=3)
    world.send()
    outcome = agent(world, train_until_stopped(world, {"state": "REGISTERED"}))[0].step()
    assert outcome is not None
    assert outcome.state is AttemptState.LOST
    assert "no longer waits" in outcome.cause
    assert world.reporter.delivered == []


def test_a_lost_lease_stops_the_training_and_its_outcome_is_discarded(world: World) -> None:
    def lose(request: TrainingRequest, stop: threading.Event) -> int:
        taken = {"fencing": 2, "rig": "rig-2", "outcome": None, "state": "LEASED", "token": ""}
        world.records.update(layout.job_pk(KEY), layout.LEASE, taken, below={"fencing": 2})
        assert stop.wait(20)
        return 143

    world.put_job({"train.py": ""}, offline_tolerance_seconds=3)
    world.send()
    outcome = agent(world, lose)[0].step()
    assert outcome is not None
    assert outcome.state is AttemptState.LOST
    assert (world.lease()["rig"], world.lease()["outcome"]) == ("rig-2", None)
    assert world.reporter.delivered == []


def test_being_offline_never_ends_a_training(world: World) -> None:
    """The network goes when the training starts, and comes back at the first write after it."""

    def train(request: TrainingRequest, stop: threading.Event) -> int:
        world.records.offline.set()
        world.wait_for(lambda: any(event == "heartbeat failed" for event, _ in world.events))
        return 0

    world.put_job({"train.py": ""}, offline_tolerance_seconds=3)
    world.send()
    agent(world, train)[0].step()
    assert answer(world)[0] == "succeeded"
    assert world.reporter.delivered == [True]
    assert any(event == "waiting for a service" for event, _ in world.events)


class SlowUntil(DirectoryBlobStore):
    """Downloads only once ``ready`` is set."""

    def __init__(self, root: Path, ready: threading.Event) -> None:
        super().__init__(root)
        self._ready = ready

    def download(self, key: str, path: Path) -> str:
        assert self._ready.wait(20)
        return super().download(key, path)


class Beats(StepFunctions):
    """Sets ``second`` at the second heartbeat."""

    def __init__(self, records: MemoryRecords) -> None:
        super().__init__(records)
        self.second = threading.Event()

    def heartbeat(self, token: str) -> None:
        super().heartbeat(token)
        if self.heartbeats[token] == 2:
            self.second.set()


def test_heartbeats_go_on_while_the_data_is_still_fetched(world: World) -> None:
    world.tasks = beats = Beats(world.records)
    world.reporter = FinishAttempt(world.records, beats)
    world.blobs = SlowUntil(world.folder / "bucket", beats.second)
    world.put_job({"train.py": ""}, offline_tolerance_seconds=3)
    world.send()
    agent(world)[0].step()
    assert answer(world)[0] == "succeeded"


class Forbidden(StepFunctions):
    """Refuses every heartbeat, as IAM does without the permission."""

    def heartbeat(self, token: str) -> None:
        raise PermissionMissing("the user rig-1 may not states:SendTaskHeartbeat")


def test_a_rig_that_may_not_keep_its_lease_says_so_and_does_not_train_on(world: World) -> None:
    def train(request: TrainingRequest, stop: threading.Event) -> int:
        assert stop.wait(20)
        return 143

    world.tasks = forbidden = Forbidden(world.records)
    world.reporter = FinishAttempt(world.records, forbidden)
    world.put_job({"train.py": ""}, offline_tolerance_seconds=3)
    world.send()
    outcome = agent(world, train)[0].step()
    assert outcome is not None
    assert outcome.state is AttemptState.FAILED
    assert "the user rig-1 may not states:SendTaskHeartbeat" in answer(world)[1][1]


def test_a_stopped_rig_loses_the_attempt_so_that_it_runs_again(world: World) -> None:
    def train(request: TrainingRequest, stop: threading.Event) -> int:
        rig.stop()
        assert stop.wait(20)
        return 143

    world.put_job({"train.py": ""})
    world.send()
    rig, _ = agent(world, train)
    rig.run()
    assert answer(world)[1][0] == "AttemptLost"


def test_a_draining_rig_finishes_and_takes_no_more(world: World) -> None:
    def train(request: TrainingRequest, stop: threading.Event) -> int:
        rig.drain()
        return 0

    world.put_job({"train.py": ""})
    world.send(1)
    world.send(2)
    rig, runner = agent(world, train)
    rig.run()
    assert len(runner.requests) == 1
    assert answer(world)[0] == "succeeded"


def test_checkpoints_outlive_a_lost_attempt_and_go_with_a_finished_one(world: World) -> None:
    resumed: list[bool] = []

    def train(request: TrainingRequest, stop: threading.Event) -> int:
        checkpoint = Layout(request.work).checkpoints / "epoch-1"
        resumed.append(checkpoint.exists())
        checkpoint.write_text("weights")
        if len(resumed) == 1:
            raise EnvironmentProblem("the disk is full")
        return 0

    world.put_job({"train.py": ""})
    rig, _ = agent(world, train)
    for fencing in (1, 2, 3):
        world.send(fencing)
        rig.step()
    assert resumed == [False, True, False]


def test_after_a_crash_the_attempt_is_ended_and_reported(world: World) -> None:
    """As an agent leaves it that was killed in a training: lease, token and journal, no outcome."""
    world.put_job({"train.py": ""})
    crash(world)
    rig, runner = agent(world)
    rig.recover()
    assert answer(world)[1][0] == "AttemptLost"
    assert runner.requests == []
    rig.recover()
    assert world.reporter.delivered == [True]


def test_after_a_crash_between_commit_and_report_the_outcome_is_reported(world: World) -> None:
    world.put_job({"train.py": ""})
    crash(world)
    done = Outcome(state=AttemptState.SUCCEEDED, output="x/", seconds=2.0)
    values = {"outcome": {"state": "SUCCEEDED", "output": done.output, "seconds": 2.0}}
    world.records.update(layout.job_pk(KEY), layout.LEASE, values, expect={"fencing": 1})
    agent(world)[0].recover()
    assert answer(world)[0] == "succeeded"


def crash(world: World) -> None:
    """Leave what an agent of the version before the spool leaves that dies in a training."""
    taken = {"fencing": 1, "rig": "rig-1", "state": "LEASED", "token": "", "outcome": None}
    world.records.update(layout.job_pk(KEY), layout.LEASE, taken)
    world.tasks.hand_out(1)
    world.settings.folder.mkdir(parents=True)
    entry = {"job_key": KEY, "fencing": 1, "run_id": "an-earlier-run"}
    (world.settings.folder / "journal.json").write_text(json.dumps(entry))


class AnswersTheThirdTime(FinishAttempt):
    calls = 0

    def finished(self, job_key: str, fencing: int) -> None:
        self.calls += 1
        if self.calls < 3:
            raise Unavailable("the function did not answer")
        super().finished(job_key, fencing)


def test_the_report_is_repeated_until_it_is_answered(world: World) -> None:
    world.put_job({"train.py": ""})
    world.reporter = AnswersTheThirdTime(world.records, world.tasks)
    world.send()
    agent(world)[0].step()
    assert world.reporter.delivered == [True]
    assert answer(world)[0] == "succeeded"


class MayNotAnswer(FinishAttempt):
    """Its role lacks a permission, until somebody mends the stack."""

    mended = False

    def finished(self, job_key: str, fencing: int) -> None:
        if not self.mended:
            raise PermissionMissing("the role may not states:SendTaskSuccess")
        super().finished(job_key, fencing)


def test_an_outcome_that_cannot_be_reported_is_reported_by_the_next_run(world: World) -> None:
    world.put_job({"train.py": ""})
    world.reporter = reporter = MayNotAnswer(world.records, world.tasks)
    world.send(1)
    world.send(2)
    rig, runner = agent(world)
    for _ in range(2):  # in the first life, and in the next
        with pytest.raises(PermissionMissing, match="SendTaskSuccess"):
            rig.run()
        rig, _ = agent(world)
    said = {"job_key": KEY, "fencing": 1, "error": "the role may not states:SendTaskSuccess"}
    assert ("outcome committed, not reported", said) in world.events
    assert (len(runner.requests), world.lease()["state"]) == (1, "SUCCEEDED")
    taken = [fields["fencing"] for event, fields in world.events if event == "work taken"]
    assert taken == [1], "the next one could not be reported either"
    reporter.mended = True
    rig.recover()
    assert answer(world)[0] == "succeeded"


def test_the_real_runner_under_the_agent(world: World) -> None:
    files = {"train.py": LEAVES_A_MODEL + "\nprint('accuracy=0.75')\n"}
    world.put_job(files)
    world.send()
    rig = Agent(world.settings, world.services, world.runner(), world.report)
    outcome = rig.step()
    assert outcome is not None
    assert (outcome.state, outcome.metrics) == (AttemptState.SUCCEEDED, {"accuracy": 0.75}), outcome.cause
    prefix = layout.attempt_output(KEY, 1)
    export = json.loads(world.blobs.get(f"{prefix}export.json", max_bytes=10_000))
    assert export["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]


AGENT_PROCESS = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from rig_world import World
from isthmus.rig.agent import Agent
world = World(Path(sys.argv[1]))
world.put_job({{"train.py": {script!r}}})
world.send()
runner = world.runner(on_line=lambda line: print(line, flush=True))
Agent(world.settings, world.services, runner, world.report).run()
"""
STARTS_A_DAEMON = """
import os, subprocess, sys, threading
code = "import os, threading; print('daemon', os.getpid(), flush=True); threading.Event().wait()"
subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
print("script", os.getpid(), flush=True)
threading.Event().wait()
"""


def test_sigkill_of_the_agent_kills_the_training_and_what_it_started(tmp_path: Path) -> None:
    program = AGENT_PROCESS.format(tests=str(Path(__file__).parent), script=STARTS_A_DAEMON)
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().split() for _ in range(2)]
        handles = {name: os.pidfd_open(int(number)) for name, number in lines}
        process.kill()
        for handle in handles.values():
            # A handle becomes readable when its process has ended (pidfd_open(2)).
            assert wait_readable(handle, seconds=20)
            os.close(handle)
    assert process.returncode == -signal.SIGKILL
    assert set(handles) == {"script", "daemon"}


def wait_readable(handle: int, seconds: float) -> bool:
    return bool(select.select([handle], [], [], seconds)[0])
