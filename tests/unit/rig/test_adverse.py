"""What one attempt left, or one refusal, must not keep a rig from its other work, nor lose a result."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rig_world import KEY, FlakyRecords, World
from test_offline import Stage, agent, give_away, leave_offline, results, start

from isthmus import documents
from isthmus.adapters.aws.records import from_wire, to_wire
from isthmus.adapters.local.blobs import DirectoryBlobStore
from isthmus.errors import EnvironmentProblem, PermissionMissing
from isthmus.model import layout
from isthmus.model.dataset import DatasetFile, Manifest
from isthmus.model.messages import AttemptState
from isthmus.ports import Item, TrainingRun
from isthmus.rig import orphans
from isthmus.rig.agent import Agent
from isthmus.rig.contract import Layout
from isthmus.rig.runner import TrainingRequest
from isthmus.rig.spool import Entry, Spool


def succeed(request: TrainingRequest, stop: threading.Event) -> int:
    return 0


class Wired(FlakyRecords):
    """Gives back what DynamoDB would: decimal numbers, of which whole ones are int."""

    def get(self, pk: str, sk: str) -> Item | None:
        item: Item | None = from_wire(to_wire(super().get(pk, sk)))
        return item


class Measures(Stage):
    def run(self, request: TrainingRequest, stop: threading.Event) -> TrainingRun:
        return dataclasses.replace(super().run(request, stop), metrics={"loss": 3.2e28, "tiny": 1e-129})


def test_a_committed_outcome_is_known_again_whatever_the_table_makes_of_its_numbers(world: World) -> None:
    world.records = records = Wired()
    world.__post_init__()
    reporter = world.reporter

    class Dies:
        def finished(self, job_key: str, fencing: int) -> None:
            raise KeyboardInterrupt

    world.reporter = Dies()  # type: ignore[assignment]
    start(world)
    with pytest.raises(KeyboardInterrupt):
        Agent(world.settings, world.services, Measures(succeed), world.report).step()
    world.reporter = reporter
    Agent(world.settings, world.services, Measures(succeed), world.report).recover()
    assert world.tasks.answers["train-1"][0] == "succeeded"
    assert (orphans.of_rig("rig-1", records), results(world)) == ([], [])


def test_a_file_name_that_no_document_holds_fails_the_attempt_and_not_the_rig(world: World) -> None:
    def train(request: TrainingRequest, stop: threading.Event) -> int:
        Path(os.fsdecode(os.fsencode(Layout(request.work).output_data) + b"/\xff.bin")).write_text("x")
        return 0

    start(world)
    rig, _ = agent(world, train)
    outcome = rig.step()
    assert outcome is not None
    assert outcome.state is AttemptState.FAILED
    assert "UnicodeEncodeError" in outcome.cause
    assert world.tasks.answers["train-1"][0] == "failed"
    assert (Spool(world.settings.folder).entries(), results(world)) == ([], [])


class TakesNoMetrics(FlakyRecords):
    """Refuses items with metrics, as a table does that are too large for it."""

    def update(self, pk: str, sk: str, values: Any, **conditions: Any) -> None:
        if (values.get("outcome") or {}).get("metrics"):
            raise ValueError("Item size has exceeded the maximum allowed size")
        super().update(pk, sk, values, **conditions)


def test_an_outcome_that_no_table_takes_is_a_failed_one_that_says_why(world: World) -> None:
    world.records = TakesNoMetrics()
    world.__post_init__()
    start(world)
    outcome = agent(world, succeed)[0].step()
    assert outcome is not None
    assert (outcome.state, outcome.cause[:20]) == (AttemptState.FAILED, "ValueError: Item siz")
    assert world.tasks.answers["train-1"][0] == "failed"


def test_what_cannot_be_recovered_stays_and_keeps_nothing_else_from_it(world: World) -> None:
    class Odd(Stage):
        def end(self, run_id: str) -> int:
            if run_id == "odd":
                raise ValueError("no such run")
            return super().end(run_id)

    spool = Spool(world.settings.folder)
    spool.begin(Entry(job_key="odd", fencing=7, run_id="odd"))
    left = world.settings.folder / "results" / "odd-7"
    left.mkdir(parents=True)
    leave_offline(world)
    Agent(world.settings, world.services, Odd(succeed), world.report).recover()
    assert world.tasks.answers["train-1"][0] == "succeeded"
    assert [entry.job_key for entry in spool.entries()] == ["odd"]
    assert left.is_dir()
    said = {"error": "ValueError: no such run", "job_key": "odd", "fencing": 7}
    assert ("not recovered", said) in world.events


def test_orphans_keep_their_files_when_the_folder_has_another_path(world: World, tmp_path: Path) -> None:
    leave_offline(world)
    give_away(world)
    agent(world, succeed)[0].recover()
    moved = world.settings.folder.rename(world.folder / "larger-disk")
    world.settings = dataclasses.replace(world.settings, folder=moved)
    agent(world, succeed)[0].recover()
    assert results(world) == [f"{KEY}-1"]
    spool = Spool(moved)
    found = orphans.find(KEY, "rig-1", spool, world.records)
    names = orphans.claim(found, tmp_path / "mine", spool, world.records, world.blobs)
    assert (names[0], results(world)) == ("model.onnx", [])


class Forgetful(Spool):
    def end(self, *args: Any) -> Any:
        raise EnvironmentProblem("database or disk is full")


def test_an_orphan_that_could_not_be_remembered_at_once_has_its_files(world: World) -> None:
    def train(request: TrainingRequest, stop: threading.Event) -> int:
        give_away(world)
        return 0

    world.settings = dataclasses.replace(
        world.settings, poll_seconds=60
    )  # the report is the first to hear of it
    start(world)
    rig, _ = agent(world, train)
    rig._spool = Forgetful(world.settings.folder)
    rig.step()
    (orphan,) = rig._spool.orphans()
    assert (Path(orphan.path) / "train.log").read_text() == "epoch=1\n"
    assert rig._spool.files_of(orphan) == Path(orphan.path)


class NoRigs(FlakyRecords):
    """The table of a stack of before rigs had a place in it."""

    mended = False

    def put(self, item: Item) -> None:
        if item["pk"].startswith("RIG#") and not self.mended:
            raise PermissionMissing("the user rig-1 may not dynamodb:PutItem on RIG#rig-1")
        super().put(item)


def test_an_orphan_that_may_not_be_told_keeps_no_rig_from_its_start(world: World) -> None:
    world.records = records = NoRigs()
    world.__post_init__()
    leave_offline(world)
    give_away(world)
    for _ in range(2):
        agent(world, succeed)[0].recover()
    assert [orphan.told for orphan in Spool(world.settings.folder).orphans()] == [False]
    assert [event for event, _ in world.events].count("orphan not told") == 3
    records.mended = True
    agent(world, succeed)[0].recover()
    assert [orphan.told for orphan in Spool(world.settings.folder).orphans()] == [True]


def test_a_stop_is_heard_while_the_token_is_waited_for(world: World) -> None:
    world.tasks.hands_out = False
    world.settings = dataclasses.replace(world.settings, token_seconds=600)
    start(world)
    rig, stage = agent(world, succeed)
    report = world.report

    def stop_then(event: str, **fields: Any) -> None:
        report(event, **fields)
        if event == "attempt started":
            rig.stop()

    rig._report = stop_then
    outcome = rig.step()
    assert outcome is not None
    assert (outcome.state, stage.names) == (AttemptState.LOST, [])
    assert "the rig was stopped" in outcome.cause


class StopsAtTheFirst(DirectoryBlobStore):
    """The rig is stopped while the first file of the data is fetched."""

    rig: Agent
    fetched = 0

    def save(self, key: str, *args: Any, **options: Any) -> Any:
        if "blobs/" in key:
            self.fetched += 1
            self.rig.stop()
        return super().save(key, *args, **options)


class StopsWithinAFile(StopsAtTheFirst):
    """The rig is stopped when the first bytes of a file are there."""

    def save(self, key: str, *args: Any, go_on: Callable[[], None] = lambda: None, **options: Any) -> Any:
        def stop_and_ask() -> None:
            if "blobs/" in key:
                self.fetched += 1
                self.rig.stop()
            go_on()

        return DirectoryBlobStore.save(self, key, *args, go_on=stop_and_ask, **options)


@pytest.mark.parametrize("connections", [1, 4])
def test_a_stop_is_heard_within_a_large_file(world: World, connections: int) -> None:
    world.blobs = blobs = StopsWithinAFile(world.folder / "bucket")
    world.settings = dataclasses.replace(world.settings, connections=connections)
    start(world)
    key, data = layout.registered_manifest(KEY), bytes(3 * 2**20)
    manifest = documents.decode(Manifest, world.blobs.get(key, max_bytes=10_000), key)
    large = DatasetFile(path="train/large", sha256=documents.sha256(data), size_bytes=len(data))
    world.blobs.put(layout.dataset_folder("digits") + layout.blob_path(large.sha256), data)
    world.blobs.put(key, documents.encode(msgspec.structs.replace(manifest, files=(large,))))
    rig, stage = agent(world, succeed)
    blobs.rig = rig
    outcome = rig.step()
    assert outcome is not None
    assert (outcome.state, stage.names) == (AttemptState.LOST, [])
    assert blobs.fetched == 1, "of twelve pieces"


def test_a_stop_is_heard_while_the_data_is_fetched(world: World) -> None:
    world.blobs = blobs = StopsAtTheFirst(world.folder / "bucket")
    world.settings = dataclasses.replace(world.settings, connections=1)
    start(world)
    rig, _ = agent(world, succeed)
    blobs.rig = rig
    outcome = rig.step()
    assert outcome is not None
    assert (outcome.state, blobs.fetched) == (AttemptState.LOST, 1)
