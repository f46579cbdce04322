"""A device that loses power, in small: the store holds, and a disk that lies is found out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from benchmarks.edge_powerloss import broken
from benchmarks.powerloss.disk import Disk, PowerLost, Recorder
from benchmarks.powerloss.world import World
from isthmus.durable import make_folder, write_durably
from isthmus.edge.model_store import MAX_ATTEMPTS


def test_power_that_is_lost_anywhere_leaves_a_verified_model(tmp_path: Path) -> None:
    world = World(tmp_path / "world", seed=3)
    found = world.lose(24)
    world.lose_in_every_proof(1)
    assert (found.points, broken(found.broken), found.said) == (24, 0, [])
    assert found.most_attempts == MAX_ATTEMPTS


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["files", "folders"])
def test_a_disk_that_does_not_sync_is_found_out(tmp_path: Path, kind: str) -> None:
    assert broken(World(tmp_path / "world", seed=1, deaf_to=kind).lose(60).broken) > 0


def after(folder: Path, action: Callable[[Path], object], tmp_path: Path) -> list[dict[str, str]]:
    """Return what a folder may hold when the power goes right after an action."""
    folder.mkdir()
    disk = Disk(folder)
    for step in Recorder(folder).record(lambda: action(folder)):
        disk.do(step)
    left = []
    for number in range(30):
        disk.lose_power(tmp_path / str(number), "nothing" if number == 0 else "some", Random(number))
        files = (path for path in (tmp_path / str(number)).rglob("*") if path.is_file())
        left.append({path.name: path.read_text(errors="replace") for path in files})
    return left


def test_what_was_written_and_not_synced_may_be_lost_in_part(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        (folder / "a").write_text("whole")
        (folder / "a").rename(folder / "b")

    left = after(tmp_path / "disk", write, tmp_path)
    assert left[0] == {}
    assert {"b": "whole"} in left
    assert {"b": ""} in left, "a name without its bytes"
    assert not any(set(found) == {"a", "b"} for found in left), "a rename is whole"


def test_what_was_written_durably_is_there(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        make_folder(folder / "deep" / "down")
        write_durably(folder / "deep" / "down" / "a", b"whole")

    assert after(tmp_path / "disk", write, tmp_path) == [{"a": "whole"}] * 30


def test_what_a_program_would_do_after_the_power_went_is_not_done(tmp_path: Path) -> None:
    def dies(folder: Path) -> None:
        (folder / "a").mkdir()
        raise PowerLost

    (tmp_path / "disk").mkdir()
    steps = Recorder(tmp_path / "disk").record(lambda: dies(tmp_path / "disk"))
    assert [(step.verb, step.path) for step in steps] == [("mkdir", "a")]
