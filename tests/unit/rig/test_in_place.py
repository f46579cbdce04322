"""Datasets that stay where they are: verified and linked there, their models judged there, and nothing of them told."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from in_place_world import CLASSES, PERFECT, PINNED, SECRET, InPlaceWorld, ModelRunner, model, npy
from onnx import TensorProto, helper, numpy_helper
from rig_world import KEY, FlakyRecords, World

from isthmus import documents
from isthmus.adapters.local.queue import ManualClock
from isthmus.errors import AttemptLost, InvalidDocument, Unavailable
from isthmus.model import layout
from isthmus.model.bundle import BundleFile, BundleManifest
from isthmus.model.dataset import InPlace
from isthmus.model.judgement import Judgement
from isthmus.model.messages import AttemptState
from isthmus.ports import Clock, Item
from isthmus.rig.agent import Agent
from isthmus.rig.contract import Layout
from isthmus.rig.data_roots import data_roots
from isthmus.rig.in_place import InPlaceData
from isthmus.rig.runner import TrainingRequest
from isthmus.rig.settings import RigFile


@pytest.fixture
def here(world: World) -> InPlaceWorld:
    return InPlaceWorld(world)


LATER = ManualClock(time.time() + 3600)
"""Long after whatever a test has written."""


def data_of(here: InPlaceWorld, in_place: InPlace | None = None, clock: Clock = LATER) -> InPlaceData:
    manifest = here.put_job()
    world = here.world
    assert isinstance(manifest.in_place, InPlace)
    return InPlaceData(
        in_place or manifest.in_place,
        manifest,
        world.settings,
        dataclasses.replace(world.services, clock=clock),
        lambda call: call(),
        world.report,
    )


def placed(
    here: InPlaceWorld, name: str, go_on: Callable[[], None] = lambda: None, clock: Clock = LATER
) -> Layout:
    folders = Layout(here.world.folder / name)
    folders.make()
    data_of(here, clock=clock).place(folders, go_on)
    return folders


def test_a_job_reads_its_data_in_place_and_nothing_of_them_is_told(here: InPlaceWorld) -> None:
    def play(request: TrainingRequest) -> int:
        assert (request.channels["train"] / "notes.txt").read_bytes() == SECRET
        assert (request.channels["test"] / "x.npy").resolve() == (here.home / "test/x.npy").resolve()
        assert request.reads == here.home
        return 0

    here.put_job()
    outcome, _ = here.run(play)
    assert outcome.state is AttemptState.SUCCEEDED, outcome.cause
    assert here.left() == ["judgement.json", "metrics.json", "model.onnx", "output.json"]
    told = here.told()
    assert SECRET[:20] not in told
    assert (here.home / "test/x.npy").read_bytes()[-200:] not in told
    kept = here.world.settings.folder / "withheld" / f"{KEY}-1"
    assert outcome.withheld == str(kept)
    assert (kept / "data/samples.csv").read_bytes() == SECRET
    assert (kept / "train.log").read_bytes().endswith(SECRET)
    raw = here.world.blobs.get(layout.attempt_output(KEY, 1) + "judgement.json", max_bytes=10_000)
    judgement = documents.decode(Judgement, raw, "judgement")
    assert (judgement.scores.candidate, judgement.scores.champion, judgement.champion_bundle) == (
        1.0,
        None,
        "",
    )
    assert judgement.model == here.world.blobs.sha256(layout.attempt_output(KEY, 1) + "model.onnx")


def put_champion(here: InPlaceWorld, data: bytes) -> str:
    """Put a model in service."""
    file = BundleFile(path="model.onnx", sha256=documents.sha256(data), size_bytes=len(data))
    values = {
        "model": "digits",
        "release": 4,
        "files": [msgspec.to_builtins(file)],
        "opset": 17,
        "inputs": [],
        "outputs": [],
        "lineage": {"dataset": "d", "manifest_sha256": "0" * 64, "job_sha256": "0" * 64, "job_key": KEY},
        "created_at": "",
    }
    raw = documents.encode(msgspec.convert(values, BundleManifest))
    bundle = documents.sha256(raw)
    folder = layout.bundle_folder("digits", bundle)
    here.world.blobs.put(folder + "manifest.json", raw)
    here.world.blobs.put(folder + "model.onnx", data)
    item = {"pk": layout.CHAMPIONS, "sk": "digits", "model": "digits", "bundle": bundle, "release": 4}
    here.world.records.put(item)
    return bundle


def test_the_champion_is_scored_on_the_same_data(here: InPlaceWorld) -> None:
    worse = np.zeros((CLASSES, CLASSES), np.float32)
    worse[:2, :2] = PERFECT[:2, :2]
    bundle = put_champion(here, model(worse))
    here.put_job()
    outcome, _ = here.run()
    assert outcome.state is AttemptState.SUCCEEDED, outcome.cause
    raw = here.world.blobs.get(layout.attempt_output(KEY, 1) + "judgement.json", max_bytes=10_000)
    judgement = documents.decode(Judgement, raw, "judgement")
    assert judgement.champion_bundle == bundle
    assert (judgement.scores.candidate, judgement.scores.champion) == (1.0, pytest.approx(2 / 3))


def test_where_everything_may_leave_logs_and_files_do(here: InPlaceWorld) -> None:
    here.put_policy({"zones": ["onprem-*"], "may_leave": "everything"})
    here.put_job()
    here.run()
    assert {"train.log", "data/samples.csv", "judgement.json"} <= {*here.left()}


NOT_LET = [
    (
        {"zones": 3},
        "needs the data policy of digits, for its files are read in place; this rig cannot read it",
    ),
    (PINNED | {"may_leave": "nothing"}, "it lets nothing leave: have it changed to --may-leave results"),
    (PINNED | {"zones": ["onprem-rome"]}, "lets raw data lie in onprem-milan, where clinic/2026 is"),
]


@pytest.mark.parametrize(("policy", "said"), NOT_LET)
def test_a_policy_that_forbids_is_heard_before_the_script_starts(
    here: InPlaceWorld, policy: dict[str, Any], said: str
) -> None:
    here.put_policy(policy)
    here.put_job()
    outcome, runner = here.run()
    assert outcome.state is AttemptState.FAILED
    assert outcome.cause.startswith("PolicyViolation: ")
    assert said in outcome.cause
    assert runner.requests == []


@pytest.mark.parametrize("code", [0, 3])
@pytest.mark.parametrize(("policy", "said"), NOT_LET)
def test_a_policy_that_changed_while_a_script_ran_lets_nothing_leave(
    here: InPlaceWorld, policy: dict[str, Any], said: str, code: int
) -> None:
    def play(request: TrainingRequest) -> int:
        here.put_policy(policy)
        return code

    here.put_job()
    outcome, _ = here.run(play)
    assert (outcome.state, said in outcome.cause) == (AttemptState.FAILED, True), outcome.cause
    assert (here.left(), outcome.metrics) == ([], {})
    assert SECRET[:20] not in here.told()
    kept = here.world.settings.folder / "withheld" / f"{KEY}-1"
    assert {path.name for path in kept.iterdir()} >= {"train.log", "model", "data"}


def test_a_dataset_without_a_policy_of_its_own_is_not_read(here: InPlaceWorld) -> None:
    here.put_job(dataset="anything")
    outcome, runner = here.run()
    assert outcome.state is AttemptState.FAILED
    assert outcome.cause.startswith("PolicyViolation: needs a data policy of anything itself, for its files")
    assert runner.requests == []


def test_a_failing_script_does_not_tell_its_last_lines(here: InPlaceWorld) -> None:
    def play(request: TrainingRequest) -> int:
        """Write it wherever a file of this name would be sent from."""
        for name in ("judgement.json", "model/export.json", "model/model.onnx"):
            (request.work / name).write_bytes(SECRET)
        return 3

    here.put_job()
    outcome, _ = here.run(play)
    assert outcome.state is AttemptState.FAILED
    assert here.left() == ["metrics.json", "output.json"]
    assert outcome.cause.startswith("exit code 3\nwhat it printed may not leave the rig: there it is in ")
    assert SECRET[:20] not in here.told()


def test_a_model_that_cannot_be_judged_fails_without_telling_values(here: InPlaceWorld) -> None:
    here.put_job()
    outcome, _ = here.run(weights=np.ones((4, CLASSES)))
    assert outcome.state is AttemptState.FAILED
    assert outcome.cause == (
        "InvalidModel: the model could not be judged where its data lie; why stands in the rig's log"
    )
    assert [fields["error"] for event, fields in here.world.events if event == "not judged"]


def test_why_a_champion_fails_on_the_data_is_not_told(here: InPlaceWorld) -> None:
    """Its first tensor gives rows by their numbers; the message of one that is too large quotes it."""
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["x"], ["rows"], to=TensorProto.INT64),
            helper.make_node("Gather", ["table", "rows"], ["logits"]),
        ],
        "gathers",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", CLASSES])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", CLASSES])],
        [numpy_helper.from_array(np.zeros(5, np.float32), "table")],
    )
    opset = [helper.make_opsetid("", 17)]
    put_champion(here, helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString())
    inputs = np.eye(CLASSES, dtype=np.float32)[np.arange(30) % CLASSES]
    inputs[2, 2] = 4711
    here.write("test/x.npy", npy(inputs))
    here.put_job()
    outcome, _ = here.run()
    assert outcome.state is AttemptState.SUCCEEDED, outcome.cause
    raw = here.world.blobs.get(layout.attempt_output(KEY, 1) + "judgement.json", max_bytes=10_000)
    scores = documents.decode(Judgement, raw, "judgement").scores
    assert (scores.candidate, scores.champion) == (1.0, None)
    assert scores.incomparable == "why stands in the rig's log"
    assert [
        "4711" in fields["error"] for event, fields in here.world.events if event == "champion not judged"
    ] == [True]


class Meanwhile(FlakyRecords):
    """Does something once somebody looks for what has this key."""

    def __init__(self, key: str, then: Callable[[], object]) -> None:
        super().__init__()
        self._key, self._then = key, then

    def get(self, pk: str, sk: str) -> Item | None:
        if self._key in (pk, sk):
            self._then()
        return super().get(pk, sk)


def test_an_agent_that_is_stopped_before_it_knows_the_policy_sends_nothing(tmp_path: Path) -> None:
    ended: list[Agent] = []

    def no_answer() -> None:
        for agent in ended:
            agent.stop()
            raise Unavailable("no route")

    def play(request: TrainingRequest) -> int:
        ended.append(agent)
        return 0

    here = InPlaceWorld(World(tmp_path, records=Meanwhile(layout.POLICY, no_answer)))
    here.put_job()
    world = here.world
    world.send()
    agent = Agent(world.settings, world.services, ModelRunner(play, PERFECT), world.report)
    outcome = agent.step()
    assert outcome is not None
    assert (outcome.state, outcome.cause) == (AttemptState.LOST, "Unavailable: no route")
    assert here.left() == []
    assert not list(world.settings.folder.glob("results/*"))


def test_a_model_that_changes_while_it_is_judged_counts_for_nothing(tmp_path: Path) -> None:
    model_file = tmp_path / f"rig/attempts/{KEY}-1/model/model.onnx"
    better = Meanwhile(layout.CHAMPIONS, lambda: model_file.write_bytes(model()))
    here = InPlaceWorld(World(tmp_path, records=better))
    here.put_job()
    outcome, _ = here.run(weights=np.zeros((CLASSES, CLASSES)))
    assert outcome.state is AttemptState.FAILED
    assert "needs a model.onnx that stays as it is while it is judged" in outcome.cause
    assert here.left() == []


@pytest.mark.parametrize("name", ["judge", "judgement.json"])
def test_no_folder_that_a_script_leaves_is_in_the_judges_way(here: InPlaceWorld, name: str) -> None:
    def play(request: TrainingRequest) -> int:
        (request.work / name / "below").mkdir(parents=True)
        return 0

    here.put_job()
    outcome, _ = here.run(play)
    assert outcome.state is AttemptState.SUCCEEDED, outcome.cause
    assert "judgement.json" in here.left()


def changed(here: InPlaceWorld) -> None:
    here.write("train/notes.txt", SECRET.replace(b"4711", b"4712"))


def shorter(here: InPlaceWorld) -> None:
    here.write("train/notes.txt", SECRET[:-1])


def gone(here: InPlaceWorld) -> None:
    (here.home / "train/notes.txt").unlink()


def folder_gone(here: InPlaceWorld) -> None:
    shutil.rmtree(here.home)


def a_folder(here: InPlaceWorld) -> None:
    gone(here)
    (here.home / "train/notes.txt").mkdir()


def leads_out(here: InPlaceWorld) -> None:
    """To a file of the same bytes: what is refused is the way."""
    gone(here)
    (here.world.folder / "elsewhere").write_bytes(SECRET)
    (here.home / "train/notes.txt").symlink_to(here.world.folder / "elsewhere")


def leads_to_another_dataset(here: InPlaceWorld) -> None:
    gone(here)
    (here.root / "other.txt").write_bytes(SECRET)
    (here.home / "train/notes.txt").symlink_to("../../other.txt")


def folder_leads_out(here: InPlaceWorld) -> None:
    here.home.rename(here.world.folder / "elsewhere")
    here.home.symlink_to(here.world.folder / "elsewhere")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            changed,
            r"DigestMismatch: needs train/notes.txt of clinic/2026 as it was pushed, with the SHA-256 .{12}…;",
        ),
        (
            shorter,
            "DigestMismatch: needs train/notes.txt of clinic/2026 as it was pushed, with 1080 bytes; it has 1079",
        ),
        (
            gone,
            "MissingFile: needs train/notes.txt of clinic/2026, which was there when the dataset was pushed",
        ),
        (folder_gone, "MissingFile: needs the folder 2026 of the data root clinic, which was there"),
        (a_folder, "MissingFile: needs train/notes.txt of clinic/2026 as a file"),
        (
            leads_out,
            "Refused: train/notes.txt of clinic/2026 is a link that leads out of the dataset's folder",
        ),
        (leads_to_another_dataset, "Refused: train/notes.txt of clinic/2026 is a link that leads out"),
        (folder_leads_out, "Refused: the folder 2026 of the data root clinic is a link that leads out of it"),
    ],
)
def test_what_is_not_as_it_was_pushed_fails_before_the_script_starts(
    here: InPlaceWorld, change: Callable[[InPlaceWorld], None], said: str
) -> None:
    here.put_job()
    change(here)
    outcome, runner = here.run()
    assert outcome.state is AttemptState.FAILED
    assert re.match(said, outcome.cause), outcome.cause
    assert "\n" not in outcome.cause
    assert runner.requests == []


def test_a_root_that_this_agent_lacks_is_the_rigs_fault(here: InPlaceWorld) -> None:
    here.put_job()
    here.world.settings = dataclasses.replace(here.world.settings, data_roots={"lab": here.root})
    outcome, runner = here.run()
    assert outcome.state is AttemptState.LOST
    assert "needs the data root clinic in the agent's rig.toml; it has lab" in outcome.cause
    assert runner.requests == []


@pytest.mark.parametrize("how", ["a hard link", "rights", "times"])
def test_data_that_a_backup_touches_are_what_they_were(here: InPlaceWorld, how: str) -> None:
    path = here.home / "train/notes.txt"

    def play(request: TrainingRequest) -> int:
        if how == "a hard link":
            (here.world.folder / "backup").hardlink_to(path)
        elif how == "rights":
            path.chmod(0o440)
        else:
            os.utime(path)
        return 0

    here.put_job()
    outcome, _ = here.run(play)
    assert outcome.state is AttemptState.SUCCEEDED, outcome.cause


@pytest.mark.parametrize("written", [b"mine now\n", SECRET.replace(b"4711", b"4712")])
def test_data_that_a_script_changes_fail_its_job(here: InPlaceWorld, written: bytes) -> None:
    def play(request: TrainingRequest) -> int:
        (request.channels["train"] / "notes.txt").write_bytes(written)
        return 0

    here.put_job()
    outcome, _ = here.run(play)
    assert outcome.state is AttemptState.FAILED
    assert "needs train/notes.txt of clinic/2026 unchanged while the script runs" in outcome.cause
    assert here.left() == []


def test_a_second_job_reads_no_byte_to_verify(here: InPlaceWorld) -> None:
    asked: list[int] = []
    first = placed(here, "first", lambda: asked.append(1))
    assert len(asked) >= 3
    asked.clear()
    second = placed(here, "second", lambda: asked.append(1))
    assert asked == []
    for folders in (first, second):
        assert (folders.data / "train/notes.txt").read_bytes() == SECRET


@pytest.mark.parametrize("how", ["touched", "written anew", "replaced"])
def test_what_may_have_changed_is_read_again(here: InPlaceWorld, how: str) -> None:
    asked: list[int] = []
    placed(here, "first")
    path = here.home / "train/notes.txt"
    if how == "touched":
        os.utime(path, ns=(10**18 + 1, 10**18 + 1))
    elif how == "written anew":
        here.write("train/notes.txt", SECRET)  # of the same size, and its time set back
    else:
        beside = here.write("train/beside", SECRET)
        os.replace(beside, path)
    placed(here, "second", lambda: asked.append(1))
    assert len(asked) == 2, "asked before the file and after its one piece"


def test_what_was_changed_a_moment_before_it_was_read_is_not_remembered(here: InPlaceWorld) -> None:
    """By either time: each of these files has an old modification time; and however long the reading takes."""
    asked: list[int] = []
    clock = ManualClock(time.time() + 1)
    placed(here, "first", lambda: clock.sleep(60), clock)
    placed(here, "second", lambda: asked.append(1))
    assert len(asked) == 6
    placed(here, "third", lambda: asked.append(1))
    assert len(asked) == 6


@pytest.mark.parametrize("broken", ["a folder", "no database"])
def test_a_memory_that_cannot_be_used_costs_a_reading(here: InPlaceWorld, broken: str) -> None:
    here.world.settings.folder.mkdir()
    memory = here.world.settings.folder / "verified.db"
    if broken == "a folder":
        memory.mkdir()
    else:
        memory.write_bytes(b"no database at all " * 100)
    asked: list[int] = []
    placed(here, "first", lambda: asked.append(1))
    assert len(asked) == 6


def test_a_stop_is_heard_while_a_file_is_read(here: InPlaceWorld) -> None:
    here.write("train/large.bin", bytes(2**20))
    asked: list[int] = []

    def go_on() -> None:
        asked.append(1)
        if len(asked) == 8:
            raise AttemptLost("the rig was stopped")

    with pytest.raises(AttemptLost):
        placed(here, "first", go_on)
    assert len(asked) == 8


@pytest.mark.parametrize("connections", [1, 4])
def test_files_without_a_channel_and_links_within_the_dataset_are_read(
    here: InPlaceWorld, connections: int
) -> None:
    here.world.settings = dataclasses.replace(here.world.settings, connections=connections)
    here.write("top.txt", b"top")
    (here.home / "train/again.txt").symlink_to("notes.txt")
    folders = placed(here, "first")
    assert (folders.data / "training/top.txt").read_bytes() == b"top"
    assert (folders.data / "train/again.txt").read_bytes() == SECRET


def test_a_dataset_may_be_the_root_itself(here: InPlaceWorld) -> None:
    here.world.settings = dataclasses.replace(here.world.settings, data_roots={"clinic": here.home})
    assert data_of(here, InPlace(zone="onprem-milan", root="clinic")).home == here.home


@pytest.mark.parametrize("name", ["rig", "rig/cache", "."])
def test_a_root_apart_from_the_agents_folder_is_needed(tmp_path: Path, name: str) -> None:
    settings = RigFile(data_roots={"clinic": str(tmp_path / name)})
    with pytest.raises(
        InvalidDocument, match=r"data_roots\.clinic needs a folder apart from the agent's own"
    ):
        data_roots(settings, tmp_path / "rig")
    assert data_roots(RigFile(), tmp_path) == {}
