"""The network goes away, agents die, and leases are given away meanwhile: nothing is lost or applied twice."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rig_world import KEY, FinishAttempt, World

from isthmus.adapters.local.blobs import DirectoryBlobStore
from isthmus.errors import EnvironmentProblem, Refused, Unavailable
from isthmus.model import layout
from isthmus.model.job import Training
from isthmus.model.messages import AttemptState
from isthmus.ports import TrainingRun
from isthmus.rig import orphans
from isthmus.rig.agent import Agent
from isthmus.rig.contract import Layout
from isthmus.rig.runner import TrainingRequest
from isthmus.rig.services import RigSettings
from isthmus.rig.spool import Spool
from isthmus.rig.warden import kill_run

Play = Callable[[TrainingRequest, threading.Event], int]


class Stage:
    """A runner that plays a given part and leaves a model."""

    def __init__(self, play: Play) -> None:
        self._play = play
        self.names: list[str] = []

    def check(self, training: Training) -> None:
        """It runs everything."""

    def warm(self) -> None:
        """It has nothing to prepare."""

    def close(self) -> None:
        """It holds nothing."""

    def end(self, run_id: str) -> int:
        return kill_run(run_id)

    def run(self, request: TrainingRequest, stop: threading.Event) -> TrainingRun:
        self.names.append(request.name)
        folders = Layout(request.work)
        code = self._play(request, stop)
        (folders.model / "model.onnx").write_bytes(b"model")
        folders.log.write_text("epoch=1\n")
        return TrainingRun(code, "last line", {"loss": 0.5}, folders.root, 1.5, stop.is_set())


def agent(world: World, play: Play) -> tuple[Agent, Stage]:
    stage = Stage(play)
    return Agent(world.settings, world.services, stage, world.report), stage


def start(world: World) -> None:
    world.put_job({"train.py": ""}, offline_tolerance_seconds=3)
    world.send()


def give_away(world: World) -> None:
    """The state machine had waited long enough: another rig has the job."""
    taken = {"fencing": 2, "rig": "rig-2", "outcome": None, "state": "RUNNING", "token": "", "agent": "b"}
    world.records.update(layout.job_pk(KEY), layout.LEASE, taken, below={"fencing": 2})


def leave_offline(world: World, change: Callable[[World], None] = lambda world: None) -> Agent:
    """Train to the end while the network is away, and stop the rig before it is back."""

    def train(request: TrainingRequest, stop: threading.Event) -> int:
        change(world)
        world.records.offline.set()
        return 0

    def stop_when_it_waits(event: str, **fields: Any) -> None:
        report(event, **fields)
        if event == "waiting for a service":
            rig.stop()

    world.heals = False
    report = world.report
    world.report = stop_when_it_waits  # type: ignore[method-assign]
    start(world)
    rig, _ = agent(world, train)
    rig.step()
    world.report = report  # type: ignore[method-assign]
    world.heals = True
    world.records.offline.clear()
    return rig


def results(world: World) -> list[str]:
    return [path.name for path in (world.settings.folder / "results").glob("*")]


def test_what_ended_offline_is_delivered_by_the_next_life(world: World) -> None:
    leave_offline(world)
    assert results(world) == [f"{KEY}-1"]
    assert world.lease()["outcome"] is None
    rig, stage = agent(world, lambda request, stop: 0)
    rig.recover()
    assert world.tasks.answers["train-1"][0] == "succeeded"
    prefix = layout.attempt_output(KEY, 1)
    listed = json.loads(world.blobs.get(f"{prefix}output.json", max_bytes=10_000))
    assert [file["path"] for file in listed["files"]] == ["model.onnx", "metrics.json", "train.log"]
    assert (stage.names, results(world), Spool(world.settings.folder).entries()) == ([], [], [])


def test_what_was_given_away_meanwhile_is_an_orphan_and_changes_nothing(world: World, tmp_path: Path) -> None:
    leave_offline(world)
    give_away(world)
    rig, _ = agent(world, lambda request, stop: 0)
    rig.recover()
    assert (world.lease()["rig"], world.lease()["outcome"]) == ("rig-2", None)
    assert world.reporter.delivered == []
    (orphan,) = Spool(world.settings.folder).orphans()
    assert (orphan.job_key, orphan.fencing, orphan.metrics) == (KEY, 1, {"loss": 0.5})
    assert orphan.cause == "attempt 2 of rig rig-2 holds the lease"
    assert orphans.of_rig("rig-1", world.records) == [msgspec.structs.replace(orphan, path="")]
    agent(world, lambda request, stop: 0)[0].recover()
    assert results(world) == [f"{KEY}-1"], "what is kept is not swept away"
    spool = Spool(world.settings.folder)
    found = orphans.find(KEY, "rig-1", spool, world.records)
    names = orphans.claim(found, tmp_path / "mine", spool, world.records, world.blobs)
    assert names == ["model.onnx", "metrics.json", "train.log"]
    assert (tmp_path / "mine" / "model.onnx").read_bytes() == b"model"
    assert (results(world), spool.orphans(), orphans.of_rig("rig-1", world.records)) == ([], [], [])


def test_a_partitioned_agent_whose_lease_moved_on_is_refused_and_keeps_an_orphan(world: World) -> None:
    def train(request: TrainingRequest, stop: threading.Event) -> int:
        world.records.offline.set()
        world.wait_for(lambda: any(event == "heartbeat failed" for event, _ in world.events))
        give_away(world)
        return 0

    start(world)
    records = world.records
    records.update = lifted(records)  # type: ignore[method-assign]
    outcome = agent(world, train)[0].step()
    assert outcome is not None
    assert outcome.state is AttemptState.LOST
    assert (world.lease()["fencing"], world.lease()["outcome"]) == (2, None)
    assert [orphan.fencing for orphan in orphans.of_rig("rig-1", world.records)] == [1]
    assert world.reporter.delivered == []


def lifted(records: Any) -> Callable[..., None]:
    """The other rig is not cut off: its writes arrive while ours do not."""
    plain = records.update

    def update(pk: str, sk: str, values: Any, **conditions: Any) -> None:
        cut = records.offline.is_set() and values.get("rig") == "rig-2"
        if cut:
            records.offline.clear()
        plain(pk, sk, values, **conditions)
        if cut:
            records.offline.set()

    return update


def test_a_given_up_attempt_commits_nothing_that_the_next_one_would_write_over(world: World) -> None:
    """Its token ran out and the next attempt is planned, but no rig has taken that yet."""
    leave_offline(world)
    lost = {"state": "LOST", "cause": "the rig fell silent"}
    world.records.update(layout.job_pk(KEY), layout.LEASE, lost, expect={"outcome": None})
    agent(world, lambda request, stop: 0)[0].recover()
    assert (world.lease()["state"], world.lease()["outcome"]) == ("LOST", None)
    assert [orphan.cause for orphan in orphans.of_rig("rig-1", world.records)] == ["the rig fell silent"]


def test_what_a_person_stopped_is_no_orphan(world: World) -> None:
    def train(request: TrainingRequest, stop: threading.Event) -> int:
        world.tasks.close("train-1")
        mark = {"state": "ABORTED", "cause": "wrong data"}
        world.records.update(layout.job_pk(KEY), layout.STATE, mark)
        assert stop.wait(20)
        return 0

    start(world)
    outcome = agent(world, train)[0].step()
    assert outcome is not None
    assert (outcome.state, outcome.cause) == (AttemptState.ABORTED, "the job is ABORTED: wrong data")
    assert (orphans.of_rig("rig-1", world.records), results(world)) == ([], [])


class Dies(FinishAttempt):
    """The process dies before the report."""

    def finished(self, job_key: str, fencing: int) -> None:
        raise KeyboardInterrupt


def test_a_death_before_the_report_sends_nothing_twice(world: World) -> None:
    reporter, world.reporter = world.reporter, Dies(world.records, world.tasks)
    start(world)
    with pytest.raises(KeyboardInterrupt):
        agent(world, lambda request, stop: 0)[0].step()
    world.reporter = reporter
    world.blobs = Counts(world.folder / "bucket")
    agent(world, lambda request, stop: 0)[0].recover()
    assert world.tasks.answers["train-1"][0] == "succeeded"
    assert world.blobs.uploads == 0
    assert results(world) == []


class Counts(DirectoryBlobStore):
    uploads = 0

    def upload(self, key: str, path: Path, *, sha256: str) -> None:
        self.uploads += 1
        super().upload(key, path, sha256=sha256)


def test_a_result_that_was_applied_is_no_orphan_when_its_agent_died_before_forgetting_it(
    world: World,
) -> None:
    start(world)
    first, _ = agent(world, lambda request, stop: 0)
    spool, removed = first._spool, []
    spool.remove = removed.append  # type: ignore[method-assign]
    first.step()
    assert world.reporter.delivered == [True]
    (left,) = spool.entries()
    assert left.outcome is not None
    spool.close()
    again, _ = agent(world, lambda request, stop: 0)
    again.recover()
    assert again._spool.orphans() == []
    assert again._spool.entries() == []
    assert world.lease()["state"] == "SUCCEEDED"


def test_results_that_somebody_removed_are_a_lost_attempt_and_not_an_empty_model(world: World) -> None:
    leave_offline(world)
    for path in (world.settings.folder / "results").glob("*/output"):
        path.rename(path.with_name("elsewhere"))
    agent(world, lambda request, stop: 0)[0].recover()
    assert world.tasks.answers["train-1"][1][0] == "AttemptLost"


def test_a_claim_needs_an_empty_folder_and_an_orphan(world: World, tmp_path: Path) -> None:
    spool = Spool(world.settings.folder)
    with pytest.raises(Refused, match=r"no orphan of job .* there are: none"):
        orphans.find(KEY, "rig-1", spool, world.records)
    leave_offline(world)
    give_away(world)
    agent(world, lambda request, stop: 0)[0].recover()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    found = orphans.find(KEY, "rig-1", spool, world.records)
    assert orphans.known("rig-1", world.settings.folder, world.records) == [found]
    told = msgspec.structs.replace(found, path="")
    assert orphans.known("rig-1", tmp_path / "elsewhere", world.records) == [told]
    assert orphans.find(KEY[:6], "rig-1", spool, world.records) == found
    with pytest.raises(Refused, match="is not empty"):
        orphans.claim(found, tmp_path / "full", spool, world.records, world.blobs)
    orphans.discard(found, spool, world.records)
    assert (results(world), orphans.of_rig("rig-1", world.records)) == ([], [])


def test_a_full_disk_takes_no_work_and_says_what_to_do(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    start(world)
    rig, stage = agent(world, lambda request, stop: 0)
    monkeypatch.setattr("isthmus.rig.disks.MIN_FREE_BYTES", 1 << 60)
    assert rig.step() is None
    assert "free some space" in str(world.events[-1])
    assert (stage.names, world.queue.in_flight, world.lease()) == ([], {}, {})
    monkeypatch.undo()
    assert rig.step() is not None
    assert len(stage.names) == 1


class Full(Spool):
    """A disk that is full when the outcome is to be remembered."""

    def end(self, *args: Any) -> Any:
        raise EnvironmentProblem("database or disk is full")


def test_an_outcome_that_cannot_be_remembered_is_delivered_all_the_same(world: World) -> None:
    start(world)
    rig, _ = agent(world, lambda request, stop: 0)
    rig._spool = Full(world.settings.folder)
    rig.step()
    assert world.tasks.answers["train-1"][0] == "succeeded"
    assert "outcome not remembered" in [event for event, _ in world.events]


class Expires(DirectoryBlobStore):
    """Refuses its credentials so many times, until somebody renews them."""

    left = 3

    def upload(self, key: str, path: Path, *, sha256: str) -> None:
        if self.left:
            self.left -= 1
            raise Unavailable("S3 refused expired credentials")
        super().upload(key, path, sha256=sha256)


def test_expired_credentials_are_waited_for(world: World) -> None:
    world.blobs = Expires(world.folder / "bucket")
    start(world)
    outcome = agent(world, lambda request, stop: 0)[0].step()
    assert outcome is not None
    assert outcome.state is AttemptState.SUCCEEDED
    waits = [fields["error"] for event, fields in world.events if event == "waiting for a service"]
    assert waits == ["S3 refused expired credentials"] * 3


def test_a_policy_that_pins_the_data_keeps_checkpoints_on_the_rig(world: World) -> None:
    def train(request: TrainingRequest, stop: threading.Event) -> int:
        (Layout(request.work).checkpoints / "epoch-1").write_text("weights")
        raise EnvironmentProblem("the GPU fell off")

    policy = {"zones": ["onprem-*"], "may_leave": "results"}
    world.records.put({"pk": layout.dataset_pk("digits"), "sk": layout.POLICY, "policy": policy})
    start(world)
    agent(world, train)[0].step()
    assert list(world.blobs.keys(layout.checkpoint_folder(KEY))) == []
    (said,) = [fields["reason"] for event, fields in world.events if event == "checkpoints stay on this rig"]
    assert "lets raw data lie in onprem-* and results leave" in said


def test_another_rig_goes_on_where_the_first_one_was_lost(world: World, tmp_path: Path) -> None:
    seen: list[str] = []

    def train(request: TrainingRequest, stop: threading.Event) -> int:
        checkpoint = Layout(request.work).checkpoints / "epoch"
        seen.append(checkpoint.read_text() if checkpoint.exists() else "afresh")
        checkpoint.write_text(f"after {len(seen)}")
        if len(seen) == 1:
            raise EnvironmentProblem("the GPU fell off")
        return 0

    start(world)
    agent(world, train)[0].step()
    world.settings = elsewhere(world, tmp_path)
    world.send(2)
    agent(world, train)[0].step()
    assert seen == ["afresh", "after 1"]
    assert list(world.blobs.keys(layout.checkpoint_folder(KEY))) == [], "the job is over"


def elsewhere(world: World, folder: Path) -> RigSettings:
    return dataclasses.replace(world.settings, folder=folder / "rig-2")
