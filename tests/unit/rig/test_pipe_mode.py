"""A job whose data are streamed, through the agent and the real runner."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from in_place_world import InPlaceWorld
from rig_world import KEY, LEAVES_A_MODEL, World, training, zip_of

from isthmus import documents
from isthmus.errors import InvalidInput, Unavailable
from isthmus.model import layout
from isthmus.model.job import Training
from isthmus.model.messages import AttemptState, Outcome
from isthmus.rig.agent import Agent
from isthmus.rig.recordio import MAGIC
from isthmus.rig.runner import TrainingRequest

READS = """
import json, os
passes = {}
for name in json.loads(os.environ["SM_CHANNELS"]):
    for epoch in range(2):
        with open(os.environ["SM_CHANNEL_" + name.upper()] + f"_{epoch}", "rb") as pipe:
            passes[f"{name}_{epoch}"] = pipe.read().hex()
with open(os.path.join(os.environ["SM_INPUT_CONFIG_DIR"], "inputdataconfig.json")) as file:
    passes["config"] = json.load(file)
with open(os.path.join(os.environ["SM_OUTPUT_DATA_DIR"], "passes.json"), "w") as file:
    json.dump(passes, file)
"""
READS_ONE_PASS = """
import os
with open(os.environ["SM_CHANNEL_TRAIN"] + "_0", "rb") as pipe:
    print("reads", flush=True)
    pipe.read()
"""


def run(world: World, script: str, fencing: int = 1, **changes: Any) -> Outcome:
    world.put_job({"train.py": script}, **({"input_mode": "Pipe"} | changes))
    return attempt(world, fencing)


def attempt(world: World, fencing: int = 1) -> Outcome:
    world.send(fencing)
    outcome = Agent(world.settings, world.services, world.runner(), world.report).step()
    assert outcome is not None
    return outcome


def left(world: World, fencing: int = 1) -> dict[str, Any]:
    key = layout.attempt_output(KEY, fencing) + "data/passes.json"
    return dict(json.loads(world.blobs.get(key, max_bytes=2**20)))


def spoil(world: World, data: bytes) -> None:
    digest = hashlib.sha256(data).hexdigest()
    world.blobs.put(layout.dataset_folder("digits") + layout.blob_path(digest), data[::-1])


def test_a_script_reads_its_channels_pass_by_pass(world: World) -> None:
    outcome = run(world, READS + LEAVES_A_MODEL)
    assert outcome.state == AttemptState.SUCCEEDED, outcome.cause
    found = left(world)
    config = found.pop("config")
    train, test = b"1,2\n".hex(), b"3,4\n".hex()
    assert found == {"train_0": train, "train_1": train, "test_0": test, "test_1": test}
    mode = {"TrainingInputMode": "Pipe", "S3DistributionType": "FullyReplicated", "RecordWrapperType": "None"}
    assert config == {"train": mode, "test": mode}
    assert not list((world.folder / "rig" / "attempts").iterdir())


def test_each_file_comes_as_a_record_if_the_job_says_so(world: World) -> None:
    run(world, READS + LEAVES_A_MODEL, record_wrapper_type="RecordIO")
    found = left(world)
    assert bytes.fromhex(found["train_1"]) == MAGIC + b"\4\0\0\0" + b"1,2\n"
    assert found["config"]["train"]["RecordWrapperType"] == "RecordIO"


def test_data_that_are_not_what_was_promised_fail_the_attempt_though_the_script_ends_well(
    world: World,
) -> None:
    world.put_job({"train.py": READS_ONE_PASS + LEAVES_A_MODEL}, input_mode="Pipe")
    spoil(world, b"1,2\n")
    outcome = attempt(world)
    assert outcome.state == AttemptState.FAILED
    assert "DigestMismatch" in outcome.cause


def test_a_stop_reaches_a_script_that_waits_for_its_data(world: World) -> None:
    world.put_job({"train.py": READS_ONE_PASS}, input_mode="Pipe")
    agent = Agent(
        world.settings, world.services, world.runner(on_line=lambda line: agent.stop()), world.report
    )
    away(world)
    world.send()
    outcome = agent.step()
    assert outcome is not None
    assert outcome.state == AttemptState.LOST
    assert "the rig was stopped" in outcome.cause


def test_a_script_that_ended_for_want_of_data_is_not_to_blame(world: World) -> None:
    away(world)
    outcome = run(world, READS_ONE_PASS, deadline_seconds=1)
    assert outcome.state == AttemptState.LOST
    assert "waited for its data until it ended: no route" in outcome.cause


def away(world: World) -> None:
    """The bucket gives no data any more; what is no data it gives."""
    save = type(world.blobs).save

    class Away(type(world.blobs)):  # type: ignore[misc]
        def save(self, key: str, path: Path, **options: Any) -> None:
            if "blobs/" in key:
                raise Unavailable("no route")
            save(self, key, path, **options)

    world.blobs = Away(world.folder / "bucket")


def test_a_dataset_in_place_is_streamed_from_where_it_lies(world: World) -> None:
    here = InPlaceWorld(world)
    code = zip_of({"train.py": ""}, world.folder / "code.zip")
    manifest = here.put_job()
    job = msgspec.json.decode(world.blobs.get(layout.registered_job(KEY), max_bytes=2**20))
    job["source"]["input_mode"] = "Pipe"
    world.blobs.put(layout.registered_job(KEY), documents.encode(job))
    assert training(code).code.key == job["source"]["code"]["key"]
    seen: dict[str, Any] = {}

    def play(request: TrainingRequest) -> int:
        data = request.work / "input" / "data"
        seen["reads"] = request.reads
        seen["names"] = sorted(path.name for path in data.iterdir())
        seen["bytes"] = (data / "test_0").read_bytes() + (data / "train_0").read_bytes()
        return 0

    outcome, _ = here.run(play)
    assert outcome.state == AttemptState.SUCCEEDED, outcome.cause
    assert (seen["reads"], seen["names"]) == (None, ["test_0", "train_0"])
    ordered = [file.path for file in manifest.files if file.channel == "test"]
    ordered += [file.path for file in manifest.files if file.channel == "train"]
    assert seen["bytes"] == b"".join((here.home / path).read_bytes() for path in ordered)


def test_a_job_that_names_no_mode_keeps_its_digest(tmp_path: Path) -> None:
    plain = training(zip_of({"train.py": ""}, tmp_path / "code.zip"))
    assert not {"input_mode", "record_wrapper_type"} & set(msgspec.to_builtins(plain))
    assert not plain.streams


def test_records_need_pipes(tmp_path: Path) -> None:
    plain = training(zip_of({"train.py": ""}, tmp_path / "code.zip"), input_mode="Pipe")
    data = msgspec.to_builtins(plain) | {"input_mode": "File", "record_wrapper_type": "RecordIO"}
    with pytest.raises(InvalidInput, match="RecordIO needs input_mode Pipe"):
        documents.convert(Training, data, "the training")


def test_a_file_too_large_for_a_record_is_refused_before_anything_is_fetched(world: World) -> None:
    world.put_job({"train.py": ""}, input_mode="Pipe", record_wrapper_type="RecordIO")
    manifest = msgspec.json.decode(world.blobs.get(layout.registered_manifest(KEY), max_bytes=2**20))
    manifest["files"][0]["size_bytes"] = 2**29
    world.blobs.put(layout.registered_manifest(KEY), documents.encode(manifest))
    outcome = attempt(world)
    assert outcome.state == AttemptState.FAILED
    assert "RecordIO needs files of at most 512.0 MiB; train/a.csv has 512.0 MiB" in outcome.cause
