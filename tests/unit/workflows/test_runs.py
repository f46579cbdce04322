"""What can be seen of runs afterwards: curves, a comparison, and what an attempt left."""

from __future__ import annotations

from typing import Any

import pytest
from workflow_world import World

from isthmus import documents
from isthmus.adapters.local.pipeline import MemoryPipeline, run_of
from isthmus.errors import DigestMismatch, InvalidDocument, InvalidInput, MissingFile
from isthmus.model import layout
from isthmus.model.bundle import BundleFile
from isthmus.model.execution import Visit
from isthmus.model.output import Curve, Curves, Output
from isthmus.model.plan import Plan
from isthmus.sync.run_folder import MARKER
from isthmus.workflows.compare_runs import Comparison, as_document, compare_runs
from isthmus.workflows.fetch_output import OF_A_NOTEBOOK, fetch_output
from isthmus.workflows.read_curves import read_curves

KEY, OTHER = "a" * 40, "b" * 40
LOSS = Curve(seconds=(0.0, 1.0), values=(2.0, 0.5))
TRAINED = Visit(state="TrainOnRig", type="Task", outcome="succeeded", entered_seconds=2, left_seconds=40)


def attempt(world: World, key: str = KEY, **outcome: Any) -> str:
    """Let the job's next attempt end with this outcome; return where its output lies."""
    number = world.records.next_number(layout.job_pk(key), "FENCING")
    prefix = layout.attempt_output(key, number)
    told = {"state": "SUCCEEDED", "output": prefix, **outcome}
    world.records.update(
        layout.job_pk(key), layout.LEASE, {"fencing": number, "rig": "lab-1", "state": told["state"], "outcome": told}
    )  # fmt: skip
    return prefix


def leave(world: World, prefix: str, files: dict[str, bytes]) -> None:
    listed = []
    for name, data in files.items():
        world.blobs.put(prefix + name, data)
        listed.append(BundleFile(path=name, sha256=documents.sha256(data), size_bytes=len(data)))
    world.blobs.put(f"{prefix}output.json", documents.encode(Output(files=tuple(listed))))


# ------------------------------------------------------------------ curves


def test_the_curves_of_a_run_that_ended_are_those_that_it_left(world: World) -> None:
    prefix = attempt(world)
    world.blobs.put(f"{prefix}curves.json", documents.encode(Curves(curves={"loss": LOSS, "epoch": LOSS})))
    told = read_curves(KEY, world.records, world.blobs)
    assert (told.attempt, told.told_at, sorted(told.curves.curves)) == (1, "", ["epoch", "loss"])
    assert read_curves(KEY, world.records, world.blobs, ("loss",)).curves.curves == {"loss": LOSS}
    with pytest.raises(InvalidInput, match="printed no los; it printed epoch, loss"):
        read_curves(KEY, world.records, world.blobs, ("los",))


def test_the_curves_of_a_run_that_goes_on_are_those_that_its_rig_told_last(world: World) -> None:
    with pytest.raises(MissingFile, match="has not been trained yet"):
        read_curves(KEY, world.records, world.blobs)
    world.records.next_number(layout.job_pk(KEY), "FENCING")
    with pytest.raises(MissingFile, match="has told no curves"):
        read_curves(KEY, world.records, world.blobs)
    plain = {"curves": {"loss": {"seconds": [0, 1], "values": [2, 0.5], "stride": 1}}}
    world.records.update(layout.job_pk(KEY), layout.CURVES, {"fencing": 1, "metrics": plain, "at": "12:00"})
    told = read_curves(KEY, world.records, world.blobs)
    assert (told.told_at, told.curves.curves["loss"]) == ("12:00", LOSS)
    # Another attempt has begun: those of the one before are no news of it.
    world.records.next_number(layout.job_pk(KEY), "FENCING")
    with pytest.raises(MissingFile, match=r"attempt 2 .* has told no curves"):
        read_curves(KEY, world.records, world.blobs)


# ------------------------------------------------------------------ two runs


def run(world: World, key: str, pipeline: MemoryPipeline, rate: float, accuracy: float) -> None:
    training = world.training(hyperparameters={"rate": rate, "epochs": 3})
    world.blobs.put(layout.registered_job(key), documents.encode(world.job(training)))
    attempt(world, key, metrics={"loss": rate}, seconds=12.5)
    plan = Plan(job_key=key, fencing=1, device="lab-1", zone="onprem-milan", queue_url="q")
    world.blobs.put(layout.plan_key(key, 1), documents.encode(plan))
    gate = {"candidate": accuracy, "champion": 0.9, "reason": "better"}
    values = {"state": "DEPLOYED", "model": "digits", "dataset": "numbers", "evaluation": gate, "release": 2}
    world.records.update(layout.job_pk(key), layout.STATE, values)
    pipeline.script[key] = [run_of(key, "SUCCEEDED", TRAINED)]


def compared(world: World, cost: float | None = 0.25) -> Comparison:
    pipeline = MemoryPipeline()
    run(world, KEY, pipeline, 0.1, 0.95)
    run(world, OTHER, pipeline, 0.2, 0.97)
    return compare_runs(KEY, OTHER, pipeline, world.records, world.blobs, lambda key: cost)


def test_two_runs_side_by_side(world: World) -> None:
    found = compared(world)
    document = as_document(found)
    assert document["hyperparameters"] == {"epochs": {"a": 3, "b": 3}, "rate": {"a": 0.1, "b": 0.2}}
    assert document["metrics"] == {"loss": {"a": 0.1, "b": 0.2}}
    assert document["run"]["device"] == {"a": "lab-1", "b": "lab-1"}
    assert document["run"]["training seconds"] == {"a": 12.5, "b": 12.5}
    assert document["run"]["pipeline seconds"] == {"a": 40, "b": 40}
    assert document["run"]["cost usd"] == {"a": 0.25, "b": 0.25}
    assert document["gate"]["accuracy"] == {"a": 0.95, "b": 0.97}
    assert document["gate"]["release"] == {"a": 2, "b": 2}
    assert {row.name for row in found.rows if row.differs} == {"rate", "loss", "accuracy"}


def test_a_run_that_has_not_come_far_has_gaps(world: World) -> None:
    pipeline = MemoryPipeline()
    run(world, KEY, pipeline, 0.1, 0.95)
    world.blobs.put(layout.registered_job(OTHER), documents.encode(world.job()))
    document = as_document(compare_runs(KEY, OTHER, pipeline, world.records, world.blobs, lambda key: None))
    assert document["run"]["state"] == {"a": "DEPLOYED", "b": "WAITING"}
    assert document["hyperparameters"]["rate"] == {"a": 0.1, "b": None}
    assert document["run"]["device"]["b"] is None
    assert document["run"]["cost usd"] == {"a": None, "b": None}


def test_a_job_that_nobody_knows_is_named(world: World) -> None:
    with pytest.raises(MissingFile, match=f"job {KEY} is not known"):
        compare_runs(KEY, OTHER, MemoryPipeline(), world.records, world.blobs, lambda key: None)


# ------------------------------------------------------------------ what an attempt left


def test_what_a_notebook_left_is_brought_here(world: World) -> None:
    leave(world, attempt(world), {"data/n.ipynb": b"{}", "train.log": b"log", "model.onnx": b"model"})
    folder = world.workdir()
    fetched = fetch_output(KEY, world.records, world.blobs, folder, OF_A_NOTEBOOK)
    assert (fetched.files, fetched.rig, fetched.withheld) == (("data/n.ipynb", "train.log"), "lab-1", "")
    assert (folder / "data/n.ipynb").read_bytes() == b"{}"
    assert not (folder / "model.onnx").exists()


def test_what_is_withheld_is_said(world: World) -> None:
    leave(world, attempt(world, withheld="/srv/isthmus/withheld/x"), {"model.onnx": b"model"})
    fetched = fetch_output(KEY, world.records, world.blobs, world.workdir(), OF_A_NOTEBOOK)
    assert (fetched.files, fetched.withheld) == ((), "/srv/isthmus/withheld/x")


def test_before_an_attempt_ended_there_is_nothing(world: World) -> None:
    with pytest.raises(MissingFile, match="has left anything yet"):
        fetch_output(KEY, world.records, world.blobs, world.workdir())


def test_other_bytes_than_the_list_says_are_not_kept(world: World) -> None:
    prefix = attempt(world)
    leave(world, prefix, {"train.log": b"log"})
    world.blobs.put(f"{prefix}train.log", b"changed")
    folder = world.workdir()
    with pytest.raises(DigestMismatch, match=r"train\.log"):
        fetch_output(KEY, world.records, world.blobs, folder)
    assert [path.name for path in folder.iterdir()] == [MARKER]


def test_what_another_job_left_is_not_fetched(world: World) -> None:
    """A rig writes where its files are; it could name what a person may read, and it may not."""
    theirs = attempt(world, OTHER)
    leave(world, theirs, {"train.log": b"theirs"})
    curves = documents.encode(Curves(curves={"theirs": LOSS}))
    world.blobs.put(f"{theirs}curves.json", curves)
    attempt(world, output=theirs)
    folder = world.workdir()
    with pytest.raises(InvalidDocument, match=r"attempt 1 of job a.* lab-1 told jobs/b"):
        fetch_output(KEY, world.records, world.blobs, folder)
    assert not list(folder.iterdir())
    with pytest.raises(MissingFile, match="has told no curves"):
        read_curves(KEY, world.records, world.blobs)


@pytest.mark.parametrize("name", ["../x", "/etc/x", "data/../../x"])
def test_a_list_that_leads_out_of_the_folder_is_refused(world: World, name: str) -> None:
    prefix = attempt(world)
    listed = Output(files=(BundleFile(path=name, sha256="0" * 64, size_bytes=1),))
    world.blobs.put(f"{prefix}output.json", documents.encode(listed))
    with pytest.raises(InvalidDocument, match="leads out of its folder"):
        fetch_output(KEY, world.records, world.blobs, world.workdir())
