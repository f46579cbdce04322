from __future__ import annotations

from pathlib import Path

import pytest

from isthmus.adapters.local.blobs import DirectoryBlobStore
from isthmus.adapters.local.records import MemoryRecords
from isthmus.errors import MissingFile, UnknownModel
from isthmus.model import layout
from isthmus.workflows.fetch_model import ARTIFACT, Fetched, fetch_model, last_fetched
from isthmus.workflows.shift_traffic import commit_champion

FIRST, SECOND = "a" * 64, "b" * 64


class World:
    def __init__(self, folder: Path) -> None:
        self.device, self.records = folder / "device", MemoryRecords()
        self.blobs = DirectoryBlobStore(folder / "bucket")

    def ship(self, release: int, digest: str) -> None:
        self.blobs.put(layout.bundle_folder("digits", digest) + "bundle.zip", digest.encode())
        commit_champion("digits", digest, release, "k", str(release), records=self.records, now="2026-11-27")

    def fetch(self) -> Fetched:
        return fetch_model("digits", self.device, records=self.records, blobs=self.blobs)

    @property
    def artifact(self) -> Path:
        return self.device / ARTIFACT


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_the_release_in_service_is_fetched_and_then_the_next_one(world: World) -> None:
    world.ship(1, FIRST)
    assert world.fetch() == last_fetched(world.device) == Fetched("digits", 1, FIRST)
    assert world.artifact.read_text() == FIRST
    world.ship(2, SECOND)
    assert world.fetch().release == 2
    assert world.artifact.read_text() == SECOND


def test_what_is_there_is_not_fetched_again(world: World) -> None:
    world.ship(1, FIRST)
    world.fetch()
    world.artifact.write_text("as it is")
    assert world.fetch().release == 1
    assert world.artifact.read_text() == "as it is"


def test_one_that_does_not_arrive_leaves_the_one_before_it(world: World) -> None:
    world.ship(1, FIRST)
    world.fetch()
    world.ship(2, SECOND)
    key = layout.bundle_folder("digits", SECOND) + "bundle.zip"
    world.blobs.delete(key)
    with pytest.raises(MissingFile):
        world.fetch()
    assert last_fetched(world.device) == Fetched("digits", 1, FIRST)
    assert world.artifact.read_text() == FIRST
    world.blobs.put(key, b"whole")
    assert world.fetch().release == 2
    assert world.artifact.read_bytes() == b"whole"


def test_a_model_that_is_not_in_service_is_unknown(world: World) -> None:
    with pytest.raises(UnknownModel, match="no release of 'digits' is in service"):
        world.fetch()
    assert last_fetched(world.device) is None


@pytest.mark.parametrize("said", [b"", b"{", b"[]", b'{"model":"digits"}', b"\xff"])
def test_a_note_that_cannot_be_read_is_none(tmp_path: Path, said: bytes) -> None:
    (tmp_path / "fetched.json").write_bytes(said)
    assert last_fetched(tmp_path) is None
