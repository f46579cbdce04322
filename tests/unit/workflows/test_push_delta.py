"""A push of a large file that changed sends what changed; who reads the dataset finds it whole."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest
from test_push_dataset import JOB, quiet
from workflow_world import World, held_out, npy

from isthmus import documents
from isthmus.adapters.local.blobs import DirectoryBlobStore
from isthmus.errors import DigestMismatch, InvalidManifest, MissingFile
from isthmus.model import layout
from isthmus.model.delta import Recipe
from isthmus.model.units import MIB
from isthmus.workflows.compose_file import compose_file
from isthmus.workflows.push_dataset import Pushed, prepare, push
from isthmus.workflows.register_dataset import register_dataset

SIZE = 16 * MIB
NAME = "train/big.bin"


class Counted(DirectoryBlobStore):
    """Counts the bytes that a client sends."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.received = 0

    def put(self, key: str, data: bytes, *, sha256: str | None = None) -> None:
        self.received += len(data)
        super().put(key, data, sha256=sha256)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a held-out split in ``data`` and code in ``code``."""
    for name, content in (
        ("data/test/x.npy", npy(held_out()[0])),
        ("data/test/y.npy", npy(held_out()[1])),
        ("code/train.py", b"print('hello')\n"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return tmp_path


@pytest.fixture
def data() -> bytes:
    return random.Random(0).randbytes(SIZE)


@pytest.fixture
def blobs(world: World) -> Counted:
    return Counted(world.folder / "bucket")


def send(world: World, project: Path, blobs: Counted, data: bytes, *, whole: bool = False) -> Pushed:
    path = project / "data" / NAME
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    ready = prepare("digits", project / "data", JOB, project, world.workdir())
    blobs.received = 0
    return push(ready, blobs, quiet, whole=whole)


def register(world: World, pushed: Pushed, blobs: DirectoryBlobStore) -> None:
    register_dataset(
        pushed.manifest_key,
        pushed.job_key,
        stack="shop",
        bucket_zone="aws:eu-west-1",
        blobs=blobs,
        records=world.records,
        now="now",
    )


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def blob_key(data: bytes) -> str:
    return layout.dataset_folder("digits") + layout.blob_path(digest(data))


def overwritten(data: bytes) -> bytes:
    """1% of the bytes are others, in two places."""
    changed, stretch = bytearray(data), len(data) // 200
    for at in (len(data) // 7, len(data) // 2):
        changed[at : at + stretch] = random.Random(at).randbytes(stretch)
    return bytes(changed)


def inserted(data: bytes) -> bytes:
    """1% more near the front: everything behind it moves."""
    return data[:1000] + random.Random(1).randbytes(len(data) // 100) + data[1000:]


def removed(data: bytes) -> bytes:
    return data[: len(data) // 3] + data[len(data) // 3 + len(data) // 100 :]


@pytest.mark.parametrize("change", [overwritten, inserted, removed], ids=lambda change: change.__name__)
def test_a_change_of_one_percent_sends_at_most_two(
    world: World,
    project: Path,
    blobs: Counted,
    data: bytes,
    change: object,
) -> None:
    register(world, send(world, project, blobs, data), blobs)
    other = change(data)  # type: ignore[operator]
    pushed = send(world, project, blobs, other)
    assert blobs.received <= 0.02 * SIZE
    assert pushed.sent_bytes <= blobs.received
    assert blobs.info(blob_key(other)) is None, "the bucket's function puts it together"
    register(world, pushed, blobs)
    assert blobs.get(blob_key(other), max_bytes=2 * SIZE) == other


def test_a_push_before_the_last_one_was_put_together(
    world: World,
    project: Path,
    blobs: Counted,
    data: bytes,
) -> None:
    first, second, third = data, overwritten(data), inserted(overwritten(data))
    register(world, send(world, project, blobs, first), blobs)
    send(world, project, blobs, second)
    pushed = send(world, project, blobs, third)
    assert blobs.received <= 0.02 * SIZE
    register(world, pushed, blobs)
    assert blobs.get(blob_key(third), max_bytes=2 * SIZE) == third


def test_the_same_push_again_sends_next_to_nothing(
    world: World,
    project: Path,
    blobs: Counted,
    data: bytes,
) -> None:
    send(world, project, blobs, data)
    send(world, project, blobs, overwritten(data))
    again = send(world, project, blobs, overwritten(data))
    assert again.sent_bytes == 0
    assert blobs.received < 10_000, "the manifest"


def test_a_file_that_changed_throughout_is_sent_whole(
    world: World,
    project: Path,
    blobs: Counted,
    data: bytes,
) -> None:
    send(world, project, blobs, data)
    other = random.Random(2).randbytes(SIZE)
    send(world, project, blobs, other)
    assert blobs.info(blob_key(other)) is not None


def test_whole_means_whole(world: World, project: Path, blobs: Counted, data: bytes) -> None:
    send(world, project, blobs, data)
    send(world, project, blobs, overwritten(data), whole=True)
    assert blobs.info(blob_key(overwritten(data))) is not None


def test_hints_that_cannot_be_read_cost_a_whole_upload(
    world: World,
    project: Path,
    blobs: Counted,
    data: bytes,
) -> None:
    send(world, project, blobs, data)
    blobs.put(layout.chunks_key("digits", digest(data)), b"nonsense")
    send(world, project, blobs, overwritten(data))
    blobs.put(layout.latest_key("digits"), b"nonsense")
    send(world, project, blobs, inserted(data))
    for other in (overwritten(data), inserted(data)):
        assert blobs.info(blob_key(other)) is not None


def test_a_source_that_is_gone_or_was_changed_says_what_to_do(
    world: World,
    project: Path,
    blobs: Counted,
    data: bytes,
) -> None:
    send(world, project, blobs, data)
    pushed = send(world, project, blobs, overwritten(data))
    source = world.folder / "bucket" / blob_key(data)
    source.write_bytes(bytes(SIZE))
    with pytest.raises(DigestMismatch, match="--whole"):
        register(world, pushed, blobs)
    assert blobs.info(blob_key(overwritten(data))) is None
    source.unlink()
    with pytest.raises(MissingFile, match="--whole"):
        register(world, pushed, blobs)


def test_a_file_without_a_recipe_is_missing(
    world: World,
    project: Path,
    blobs: Counted,
    data: bytes,
) -> None:
    pushed = send(world, project, blobs, data)
    (world.folder / "bucket" / blob_key(data)).unlink()
    with pytest.raises(MissingFile, match=r"train/big\.bin is named by the manifest"):
        register(world, pushed, blobs)


BASE = {"dataset": "digits", "sha256": "a" * 64, "size_bytes": 4, "sources": ("b" * 64,), "pack": "c" * 64}


@pytest.mark.parametrize(
    "changes",
    [
        {"dataset": "other"},
        {"sha256": "d" * 64},
        {"size_bytes": 5},
        {"sources": ("a" * 64,)},
        {"pieces": ((2, 0, 4),)},
        {"pieces": ((0, 8, 4), (0, 0, 8))},
    ],
    ids=str,
)
def test_a_recipe_that_names_anything_else_is_refused(world: World, changes: dict[str, object]) -> None:
    document = documents.convert(Recipe, {"pieces": ((0, 0, 4),), **BASE, **changes}, "the recipe")
    world.blobs.put(layout.recipe_key("digits", "a" * 64), documents.encode(document))
    with pytest.raises(InvalidManifest):
        compose_file("digits", "a" * 64, world.blobs)


def test_recipes_that_lead_in_a_circle_end(world: World) -> None:
    for mine, other in (("a", "b"), ("b", "a")):
        values = {**BASE, "sha256": mine * 64, "sources": (other * 64,), "pieces": ((0, 0, 4),)}
        recipe = documents.convert(Recipe, values, "the recipe")
        world.blobs.put(layout.recipe_key("digits", mine * 64), documents.encode(recipe))
    with pytest.raises(InvalidManifest, match="more than 16"):
        compose_file("digits", "a" * 64, world.blobs)
