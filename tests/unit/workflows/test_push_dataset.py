from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from workflow_world import World, held_out, npy, onnx_model

from isthmus.adapters.local.blobs import DirectoryBlobStore
from isthmus.errors import InvalidInput, InvalidJob, Unavailable
from isthmus.workflows.push_dataset import Prepared, Pushed, prepare, push
from isthmus.workflows.register_dataset import register_dataset
from isthmus.workflows.start_pipeline import manifest_job_key

HELD_OUT = {"decode": {"format": "npy", "dtype": "uint8"}}
JOB: dict[str, Any] = {
    "model": "digits",
    "source": {
        "kind": "training",
        "framework": {"name": "mxnet", "version": "1.9.1"},
        "entry_point": "train.py",
        "code": "code",
    },
    "evaluation": {
        "inputs": {"path": "test/x.npy", **HELD_OUT},
        "labels": {"path": "test/y.npy", **HELD_OUT},
    },
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a dataset in ``data`` and code in ``code``."""
    base = tmp_path / "project"
    inputs, labels = held_out()
    for name, data in (
        ("data/test/x.npy", npy(inputs)),
        ("data/test/y.npy", npy(labels)),
        ("data/.hidden", b"left out"),
        ("data/__pycache__/x.pyc", b"left out"),
        ("code/train.py", b"print('hello')\n"),
    ):
        path = base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return base


def prepared(world: World, project: Path, job: dict[str, Any] = JOB) -> Prepared:
    return prepare("digits", project / "data", job, project, world.workdir())


def quiet(name: str, number: int, total: int) -> None:
    return None


def send(prepared: Prepared, blobs: DirectoryBlobStore) -> Pushed:
    return push(prepared, blobs, quiet)


def test_what_is_pushed_registers(world: World, project: Path) -> None:
    pushed = send(prepared(world, project), world.blobs)
    assert (pushed.files, pushed.sent_files) == (2, 4)
    registered = register_dataset(
        pushed.manifest_key,
        pushed.job_key,
        stack="shop",
        bucket_zone="aws:eu-west-1",
        blobs=world.blobs,
        records=world.records,
        now="now",
    )
    assert registered.files == 2


def test_the_second_push_sends_nothing(world: World, project: Path) -> None:
    first = send(prepared(world, project), world.blobs)
    again = send(prepared(world, project), world.blobs)
    assert (again.job_key, again.manifest_key) == (first.job_key, first.manifest_key)
    assert (again.sent_files, again.sent_bytes) == (0, 0)


def test_a_changed_script_is_another_job_and_sends_only_itself(world: World, project: Path) -> None:
    first = send(prepared(world, project), world.blobs)
    (project / "code/train.py").write_text("print('changed')\n")
    again = send(prepared(world, project), world.blobs)
    assert again.job_key != first.job_key
    assert again.sent_files == 2, "the code and the job"


class FailsAt(DirectoryBlobStore):
    """Answers until it has taken ``writes`` objects."""

    def __init__(self, root: Path, writes: int) -> None:
        super().__init__(root)
        self._left = writes

    def put(self, key: str, data: bytes, *, sha256: str | None = None) -> None:
        if self._left == 0:
            raise Unavailable("no route")
        self._left -= 1
        super().put(key, data, sha256=sha256)


@pytest.mark.parametrize("writes", [0, 1, 2, 3, 4])
def test_a_push_that_breaks_leaves_no_manifest(world: World, project: Path, writes: int) -> None:
    blobs = FailsAt(world.folder / "bucket", writes)
    ready = prepared(world, project)
    with pytest.raises(Unavailable):
        send(ready, blobs)
    assert blobs.info(ready.manifest_key) is None
    assert len(list(world.blobs.keys(""))) == writes
    assert send(ready, world.blobs).sent_files == 4 - writes, "it goes on where it stopped"


def test_the_same_code_packs_to_the_same_bytes(world: World, project: Path) -> None:
    first = prepared(world, project).manifest
    (project / "code/train.py").touch()
    (project / "code/__pycache__").mkdir()
    (project / "code/__pycache__/train.pyc").write_bytes(b"cache")
    assert prepared(world, project).manifest == first


def test_a_prefix_names_the_files_by_path_with_the_same_job_key(world: World, project: Path) -> None:
    plain = prepared(world, project)
    placed = prepare("digits", project / "data", JOB, project, world.workdir(), prefix="/files/")
    assert [file.key for file in placed.manifest.files] == ["files/test/x.npy", "files/test/y.npy"]
    assert manifest_job_key(placed.manifest) == manifest_job_key(plain.manifest)


@pytest.mark.parametrize("line", ["pandas", "pandas==3.0.0", "--extra-index-url https://example.org"])
def test_packages_that_no_rig_installs_are_refused_before_anything_is_sent(
    world: World, project: Path, line: str
) -> None:
    own = project / "code/requirements.txt"
    own.write_text(f"numpy==2.5.5 --hash=sha256:{'0' * 64}\n")
    prepared(world, project)
    own.write_text(f"{line}\n")
    with pytest.raises(InvalidJob, match=f"needs a version and its digests.*'{line}.*wish run_on: sagemaker"):
        prepared(world, project)
    prepared(world, project, {**JOB, "wishes": {"run_on": "sagemaker"}})
    prepared(world, project, changed(image=f"registry.example/trainer@sha256:{'0' * 64}"))


def test_a_job_in_slices_brings_what_its_workers_need(world: World, project: Path) -> None:
    job = changed(slices={"cuts": [3], "samples": 8, "steps": 10, "every": 5})
    with pytest.raises(InvalidJob, match="slices need msgspec and xxhash beside the framework"):
        prepared(world, project, job)
    digest = f"--hash=sha256:{'0' * 64}"
    (project / "code/requirements.txt").write_text(f"msgspec==0.22.0 {digest}\n")
    with pytest.raises(InvalidJob, match="slices need xxhash beside"):
        prepared(world, project, job)
    (project / "code/requirements.txt").write_text(f"msgspec==0.22.0 {digest}\nxxhash==4.1.0 {digest}\n")
    assert len(prepared(world, project, job).manifest.files) == 2


def test_an_import_needs_no_dataset(world: World, project: Path) -> None:
    (project / "m.onnx").write_bytes(onnx_model())
    job = {"model": "digits", "source": {"kind": "import", "artifact": "m.onnx"}}
    ready = prepare("digits", None, job, project, world.workdir())
    assert ready.manifest.files == ()
    assert send(ready, world.blobs).sent_files == 2


def changed(**source: Any) -> dict[str, Any]:
    return {**JOB, "source": {**JOB["source"], **source}}


@pytest.mark.parametrize(
    ("job", "said"),
    [
        ({}, "needs a `source`"),
        ({"source": "train.py"}, "needs a `source`"),
        (changed(code=None), "needs `code`"),
        (changed(entry_point="gone.py"), "no entry point 'gone.py'"),
        (changed(entry_points="x"), "entry_points"),
        (changed(framework={"name": "mxnet"}), "version"),
        ({**JOB, "modle": 1}, "modle"),
        ({**JOB, "model": "Digits!"}, r"\$\.model"),
        ({**JOB, "source": {"kind": "import", "artifact": "gone.onnx"}}, "no model at"),
    ],
)
def test_a_mistake_in_the_job_is_one_clear_sentence(
    world: World, project: Path, job: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidJob, match=said) as error:
        prepared(world, project, job)
    assert "\n" not in str(error.value)


def test_an_empty_or_missing_folder_is_refused(world: World, project: Path) -> None:
    (project / "empty").mkdir()
    for name, said in (("empty", "holds no files"), ("gone", "is not a folder")):
        with pytest.raises(InvalidInput, match=said):
            prepare("digits", project / name, JOB, project, world.workdir())
