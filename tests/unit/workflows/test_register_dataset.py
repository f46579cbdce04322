from __future__ import annotations

import msgspec
import pytest
from workflow_world import NOW, World, onnx_model

from isthmus import documents
from isthmus.errors import DigestMismatch, InvalidJob, InvalidManifest, IsthmusError, MissingFile
from isthmus.model import layout
from isthmus.model.blob import BlobRef
from isthmus.model.dataset import DatasetFile, Manifest
from isthmus.model.job import Import, Job
from isthmus.workflows.register_dataset import Registered, register_dataset


def register(world: World, manifest: Manifest, now: str = NOW) -> Registered:
    key, job_key = world.upload(manifest)
    return register_dataset(
        key,
        job_key,
        stack="shop",
        bucket_zone="aws:eu-west-1",
        blobs=world.blobs,
        records=world.records,
        now=now,
    )


def test_records_the_version_and_the_job_and_keeps_both_documents(world: World) -> None:
    job = world.job()
    manifest = world.manifest(job)
    registered = register(world, manifest)
    size = sum(file.size_bytes for file in manifest.files)
    assert registered == Registered("digits", "digits", "training", 2, size)
    _, key = world.upload(manifest)
    assert world.blobs.get(layout.registered_job(key), max_bytes=10_000) == documents.encode(job)
    assert world.blobs.get(layout.registered_manifest(key), max_bytes=10_000) == documents.encode(manifest)
    assert world.state(key)["state"] == "REGISTERED"
    versions = world.records.query(layout.dataset_pk("digits"), prefix="VERSION#")
    assert [item["files"] for item in versions] == [2]


def test_a_model_whose_function_cannot_be_named_is_refused_before_it_trains(world: World) -> None:
    key, job_key = world.upload(world.manifest(world.job()))
    with pytest.raises(InvalidJob, match="Lambda takes at most 64"):
        register_dataset(
            key,
            job_key,
            stack="s" * 60,
            bucket_zone="aws:eu-west-1",
            blobs=world.blobs,
            records=world.records,
            now=NOW,
        )


def test_registering_twice_changes_nothing_but_the_state(world: World) -> None:
    manifest = world.manifest()
    register(world, manifest)
    _, key = world.upload(manifest)
    world.records.update(layout.job_pk(key), layout.STATE, {"state": "FAILED", "release": 7})
    register(world, manifest, now="2030-01-01T00:00:00+00:00")
    assert world.state(key)["started_at"] == NOW, "a bundle's digest covers it"
    assert world.state(key)["state"] == "REGISTERED"
    assert world.state(key)["release"] == 7
    assert len(world.records.query(layout.dataset_pk("digits"))) == 1


def test_an_import_needs_neither_files_nor_evaluation(world: World) -> None:
    artifact = world.put_blob("code/m.onnx", onnx_model())
    job = world.job(Import(artifact=artifact), evaluation=None)
    assert register(world, world.manifest(job, files=())).kind == "import"


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"not json", "datasets/digits/manifests/bad.json"),
        (b'{"schema":"isthmus/dataset/2"}', "isthmus/dataset/2"),
        (b'{"dataset":"digits","files":[]}', "job"),
        (b'{"dataset":"../x","files":[],"job":{}}', "bad.json"),
        (b'{"dataset":"digits","files":[{"path":"../../etc/passwd"}]}', "bad.json"),
        (b"\xff\xfe", "bad.json"),
        (b"[" * 100_000, "bad.json"),
    ],
)
def test_a_malformed_manifest_is_named(world: World, raw: bytes, said: str) -> None:
    key = "datasets/digits/manifests/bad.json"
    world.blobs.put(key, raw)
    with pytest.raises(InvalidManifest, match=r"bad\.json") as error:
        register_dataset(
            key,
            "k" * 40,
            stack="shop",
            bucket_zone="aws:eu-west-1",
            blobs=world.blobs,
            records=world.records,
            now=NOW,
        )
    assert said in str(error.value)


@pytest.mark.parametrize("path", ["/abs", "a/../b", "..", "a\\b", "a/./b", ""])
def test_a_path_that_leaves_its_folder_is_malformed(world: World, path: str) -> None:
    manifest = msgspec.to_builtins(world.manifest())
    manifest["files"][0]["path"] = path
    world.blobs.put("datasets/digits/manifests/p.json", msgspec.json.encode(manifest))
    with pytest.raises(InvalidManifest):
        register_dataset(
            "datasets/digits/manifests/p.json",
            "k",
            stack="shop",
            bucket_zone="aws:eu-west-1",
            blobs=world.blobs,
            records=world.records,
            now=NOW,
        )


def changed(manifest: Manifest, **changes: object) -> Manifest:
    first = msgspec.structs.replace(manifest.files[0], **changes)
    return msgspec.structs.replace(manifest, files=(first, *manifest.files[1:]))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"key": "files/gone.npy"}, MissingFile),
        ({"size_bytes": 3}, DigestMismatch),
        ({"sha256": "0" * 64, "key": "same-size"}, DigestMismatch),
    ],
    ids=["missing", "size", "digest"],
)
def test_a_bad_file_is_named(world: World, changes: dict[str, object], error: type[IsthmusError]) -> None:
    manifest = world.manifest()
    data = world.blobs.get(f"datasets/digits/blobs/{manifest.files[0].sha256}", max_bytes=10_000)
    world.blobs.put("datasets/digits/same-size", data)
    with pytest.raises(error, match=r"test/x\.npy"):
        register(world, changed(manifest, **changes))
    assert not world.records.query(layout.dataset_pk("digits")), "nothing is recorded"


def test_a_manifest_overwritten_after_its_start_is_refused(world: World) -> None:
    key, job_key = world.upload(world.manifest())
    world.upload(world.manifest(world.job(allow_nan=True)))
    with pytest.raises(InvalidManifest, match="overwritten"):
        register_dataset(
            key,
            job_key,
            stack="shop",
            bucket_zone="aws:eu-west-1",
            blobs=world.blobs,
            records=world.records,
            now=NOW,
        )


def test_a_manifest_below_another_datasets_folder_is_refused(world: World) -> None:
    manifest = world.manifest()
    world.blobs.put("datasets/other/manifests/m.json", documents.encode(manifest))
    with pytest.raises(InvalidManifest, match="must lie below datasets/digits/"):
        register_dataset(
            "datasets/other/manifests/m.json",
            "k",
            stack="shop",
            bucket_zone="aws:eu-west-1",
            blobs=world.blobs,
            records=world.records,
            now=NOW,
        )


def test_a_path_that_is_named_twice_is_refused(world: World) -> None:
    files = world.put_files()
    with pytest.raises(InvalidManifest, match=r"test/x\.npy more than once"):
        register(world, world.manifest(files=(*files, files[0])))


def test_too_many_files_are_refused_before_any_is_looked_at(world: World) -> None:
    file = world.put_files()[0]
    files = tuple(msgspec.structs.replace(file, path=f"a/{n}", key="gone") for n in range(20_001))
    with pytest.raises(InvalidManifest, match="at most 20000"):
        register(world, world.manifest(files=files))


def test_a_job_other_than_the_manifest_names_is_refused(world: World) -> None:
    manifest = world.manifest()
    world.blobs.put(manifest.job.key, b"{}")
    with pytest.raises(DigestMismatch, match="the job is not the one"):
        register(world, manifest)


def test_a_malformed_job_is_named(world: World) -> None:
    reference = world.put_blob("datasets/digits/jobs/j.json", b'{"model":"digits","sauce":1}')
    manifest = msgspec.structs.replace(world.manifest(), job=reference)
    with pytest.raises(InvalidJob, match=r"datasets/digits/jobs/j\.json"):
        register(world, manifest)


def jobs_with_errors() -> list[tuple[str, str]]:
    return [
        ("no evaluation", "must say how it is judged"),
        ("unknown file", r"test/z\.npy, which the manifest does not name"),
        ("tolerance", "must be less than"),
        ("queue", r"\(1209601\) must be at most 1209600 \(14 days\)"),
        ("no files", "names no files"),
    ]


@pytest.mark.parametrize(("kind", "said"), jobs_with_errors())
def test_a_job_that_cannot_work_is_refused(world: World, kind: str, said: str) -> None:
    job, files = world.job(), world.put_files()
    if kind == "no evaluation":
        job = world.job(evaluation=None)
    elif kind == "unknown file":
        job = rename_held_out(job)
    elif kind == "tolerance":
        job = world.job(world.training(offline_tolerance_seconds=60, deadline_seconds=60))
    elif kind == "queue":
        job = world.job(world.training(queue_deadline_seconds=14 * 86_400 + 1))
    else:
        files = ()
    with pytest.raises(InvalidJob, match=said):
        register(world, world.manifest(job, files=files))


def rename_held_out(job: Job) -> Job:
    assert job.evaluation is not None
    inputs = msgspec.structs.replace(job.evaluation.inputs, path="test/z.npy")
    return msgspec.structs.replace(job, evaluation=msgspec.structs.replace(job.evaluation, inputs=inputs))


def test_code_that_is_not_there_is_missing(world: World) -> None:
    gone = BlobRef(key="code/gone.zip", sha256="0" * 64, size_bytes=1)
    with pytest.raises(MissingFile, match="the job's code"):
        register(world, world.manifest(world.job(world.training(code=gone))))


def test_a_file_without_a_folder_is_in_the_channel_training() -> None:
    names = {
        path: DatasetFile(path=path, sha256="0" * 64, size_bytes=0).channel
        for path in ("a.csv", "train/a.csv", "test/deep/a.csv")
    }
    assert names == {"a.csv": "training", "train/a.csv": "train", "test/deep/a.csv": "test"}


def test_team_and_priority_are_on_record_and_not_in_what_a_rig_reads(world: World) -> None:
    manifest = world.manifest(world.job(team="vision", priority=9))
    register(world, manifest)
    _, key = world.upload(manifest)
    registered = world.blobs.get(layout.registered_job(key), max_bytes=10_000)
    assert b"team" not in registered
    assert b"priority" not in registered
    assert registered == documents.encode(world.job())
    assert (world.state(key)["team"], world.state(key)["priority"]) == ("vision", 9)


def test_a_job_without_a_team_has_the_digest_that_it_had_before_teams(world: World) -> None:
    assert b"team" not in documents.encode(world.job())
    assert b"priority" not in documents.encode(world.job())
    register(world, world.manifest())
    _, key = world.upload(world.manifest())
    assert (world.state(key)["team"], world.state(key)["priority"]) == ("default", 5)
