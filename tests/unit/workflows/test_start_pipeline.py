from __future__ import annotations

import json

import msgspec
from workflow_world import World

from isthmus import documents
from isthmus.adapters.local.events import MemoryExecutions
from isthmus.workflows.start_pipeline import key_of, start_pipeline

MACHINE = "arn:machine"


def start(world: World, key: str, executions: MemoryExecutions) -> tuple[str, bool]:
    started = start_pipeline(key, blobs=world.blobs, executions=executions, machine=MACHINE)
    return started.job_key, started.new


def test_the_same_upload_twice_starts_one_execution(world: World) -> None:
    manifest, executions = world.manifest(), MemoryExecutions()
    first, _ = world.upload(manifest, "a")
    second, job_key = world.upload(manifest, "b")
    assert start(world, first, executions) == (job_key, True)
    assert start(world, first, executions) == (job_key, False)
    assert start(world, second, executions) == (job_key, False)
    assert list(executions.started) == [(MACHINE, job_key)]
    payload = executions.started[MACHINE, job_key]
    assert payload["manifest_key"] == first
    assert payload["job_key"] == job_key


def test_a_job_key_is_forty_hex_digits(world: World) -> None:
    key = key_of(documents.encode(world.manifest()))
    assert len(key) == 40
    assert int(key, 16) > 0


def test_a_changed_job_or_file_is_another_key(world: World) -> None:
    manifest = world.manifest()
    other_job = world.manifest(world.job(world.training(hyperparameters={"epochs": 3})))
    file = msgspec.structs.replace(manifest.files[0], sha256="1" * 64)
    other_file = msgspec.structs.replace(manifest, files=(file, manifest.files[1]))
    other_name = msgspec.structs.replace(manifest, dataset="digits2")
    keys = {key_of(documents.encode(entry)) for entry in (manifest, other_job, other_file, other_name)}
    assert len(keys) == 4


def test_the_key_does_not_depend_on_formatting_order_or_place(world: World) -> None:
    manifest = world.manifest()
    plain = msgspec.to_builtins(manifest)
    plain["files"] = list(reversed(plain["files"]))
    plain["files"][0]["key"] = "files/moved.npy"
    pretty = json.dumps(plain, indent=4, sort_keys=True).encode()
    assert key_of(pretty) == key_of(documents.encode(manifest))


def test_a_malformed_manifest_still_starts_one_execution(world: World) -> None:
    executions = MemoryExecutions()
    world.blobs.put("datasets/digits/manifests/bad.json", b"{")
    job_key, new = start(world, "datasets/digits/manifests/bad.json", executions)
    assert new
    assert job_key == documents.sha256(b"{")[:40]
    assert not start(world, "datasets/digits/manifests/bad.json", executions)[1]


def test_a_manifest_that_is_too_large_still_starts_one_execution(world: World) -> None:
    executions = MemoryExecutions()
    world.blobs.put("datasets/digits/manifests/big.json", b" " * (documents.MAX_DOCUMENT_BYTES + 1))
    assert start(world, "datasets/digits/manifests/big.json", executions)[1]
    assert not start(world, "datasets/digits/manifests/big.json", executions)[1]
    assert len(executions.started) == 1


def test_the_first_upload_says_when_the_job_was_submitted(world: World) -> None:
    executions = MemoryExecutions()
    manifest_key, job_key = world.upload(world.manifest())
    for time in ("2026-11-22T12:00:00Z", "2026-11-22T12:00:05Z"):
        start_pipeline(
            manifest_key, submitted_at=time, blobs=world.blobs, executions=executions, machine=MACHINE
        )
    assert executions.started[MACHINE, job_key]["submitted_at"] == "2026-11-22T12:00:00Z"
