from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from isthmus.adapters.local.blobs import DirectoryBlobStore
from isthmus.adapters.local.records import MemoryRecords
from isthmus.adapters.system import SystemThreads
from isthmus.errors import AttemptLost, LimitExceeded, Unavailable
from isthmus.model import layout
from isthmus.rig.checkpoints import Checkpoints
from isthmus.rig.mirror import RESTLESS_LOOKS, Mirror

KEY = "job"


class Rigs:
    """Rigs with folders of their own, one bucket and one table."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.blobs, self.records = DirectoryBlobStore(folder / "bucket"), MemoryRecords()
        self.said: list[tuple[str, dict[str, Any]]] = []

    def attempt(self, rig: str, fencing: int) -> Checkpoints:
        return Checkpoints(self.folder / rig, KEY, fencing, self.blobs, self.records, self.report)

    def mirror(self, checkpoints: Checkpoints) -> Mirror:
        return Mirror(checkpoints, SystemThreads(), self.report, every_seconds=0.02, still_seconds=0)

    def report(self, event: str, **fields: Any) -> None:
        self.said.append((event, fields))

    def reasons(self) -> list[str]:
        return [str(fields["reason"]) for _, fields in self.said if "reason" in fields]

    def item(self) -> dict[str, Any]:
        return self.records.get(layout.job_pk(KEY), layout.CHECKPOINT) or {}

    def stored(self) -> list[str]:
        return [info.key for info in self.blobs.keys(layout.checkpoint_folder(KEY))]


@pytest.fixture
def rigs(tmp_path: Path) -> Rigs:
    return Rigs(tmp_path)


def save(checkpoints: Checkpoints, text: str, name: str = "epoch/weights") -> None:
    """Write beside and rename, as training scripts do."""
    path = checkpoints.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".new")
    beside.write_text(text)
    os.replace(beside, path)


def read(checkpoints: Checkpoints) -> dict[str, str]:
    found = (path for path in checkpoints.folder.rglob("*") if path.is_file())
    return {path.relative_to(checkpoints.folder).as_posix(): path.read_text() for path in found}


def trained(rigs: Rigs, rig: str, fencing: int, *texts: str) -> Checkpoints:
    """An attempt that saved and mirrored so many checkpoints."""
    checkpoints = rigs.attempt(rig, fencing)
    checkpoints.restore()
    mirror = rigs.mirror(checkpoints)
    for text in texts:
        save(checkpoints, text)
        assert mirror.look()
    return checkpoints


def test_another_rig_goes_on_from_the_last_complete_checkpoint(rigs: Rigs) -> None:
    trained(rigs, "a", 1, "one", "two")
    other = rigs.attempt("b", 2)
    other.restore()
    assert read(other) == {"epoch/weights": "two"}


def test_the_bucket_keeps_one_checkpoint_and_its_manifest(rigs: Rigs) -> None:
    checkpoints = trained(rigs, "a", 1, "one", "two", "three")
    assert len(rigs.stored()) == 2
    assert (rigs.item()["by"], rigs.item()["generation"]) == (1, 3)
    assert not rigs.mirror(checkpoints).look(), "nothing is new"


def test_an_older_attempt_commits_nothing_once_a_newer_one_has_restored(rigs: Rigs) -> None:
    old = trained(rigs, "a", 1, "one")
    rigs.attempt("b", 3).restore()
    save(old, "late")
    with pytest.raises(AttemptLost, match="a later attempt"):
        rigs.mirror(old).look()
    with pytest.raises(AttemptLost, match="a later attempt"):
        rigs.attempt("a", 2).restore()
    again = rigs.attempt("c", 4)
    again.restore()
    assert read(again) == {"epoch/weights": "one"}


def test_the_same_rig_uses_what_it_has_when_that_is_at_least_as_new(rigs: Rigs) -> None:
    mine = trained(rigs, "a", 1, "one")
    save(mine, "not mirrored")
    again = rigs.attempt("a", 2)
    again.restore()
    assert read(again) == {"epoch/weights": "not mirrored"}


def test_a_local_copy_that_another_rig_has_overtaken_is_replaced(rigs: Rigs) -> None:
    mine = trained(rigs, "a", 1, "one")
    save(mine, "stale", "other")
    trained(rigs, "b", 2, "two")
    again = rigs.attempt("a", 3)
    again.restore()
    assert read(again) == {"epoch/weights": "two"}


def test_a_local_copy_that_another_agent_has_overtaken_in_the_same_attempt_is_replaced(rigs: Rigs) -> None:
    rigs.attempt("a", 2).restore()
    trained(rigs, "b", 2, "two")
    later = rigs.attempt("a", 3)
    later.restore()
    assert read(later) == {"epoch/weights": "two"}


def test_a_folder_of_the_version_before_is_as_new_as_its_attempt(rigs: Rigs) -> None:
    first = trained(rigs, "a", 2, "one")
    save(first, "newer than what was mirrored")
    (rigs.folder / "a" / f"{KEY}.fencing").write_text("2")
    again = rigs.attempt("a", 3)
    again.restore()
    assert read(again) == {"epoch/weights": "newer than what was mirrored"}


def test_what_is_not_what_the_manifest_says_is_not_used(rigs: Rigs) -> None:
    trained(rigs, "a", 1, "one")
    for key in rigs.stored():
        if "/blobs/" in key:
            rigs.blobs.put(key, b"other")
    other = rigs.attempt("b", 2)
    other.restore()
    assert read(other) == {}
    assert "epoch/weights has the SHA-256" in rigs.reasons()[-1]


@pytest.mark.parametrize("gone", ["/blobs/", "/manifests/"])
def test_a_checkpoint_with_a_part_missing_is_not_used(rigs: Rigs, gone: str) -> None:
    trained(rigs, "a", 1, "one")
    for key in rigs.stored():
        if gone in key:
            rigs.blobs.delete(key)
    other = rigs.attempt("b", 2)
    other.restore()
    assert read(other) == {}
    trained(rigs, "b", 2, "afresh")
    assert rigs.item()["by"] == 2


def test_a_job_that_is_over_leaves_nothing_and_starts_afresh_anywhere(rigs: Rigs) -> None:
    stale = trained(rigs, "a", 1, "one")
    trained(rigs, "b", 2, "two").discard(committed=True)
    assert rigs.stored() == []
    again = rigs.attempt("a", 3)
    again.restore()
    assert read(again) == {}
    assert stale.folder == again.folder


def test_who_lost_the_lease_removes_only_its_own_copy(rigs: Rigs) -> None:
    old = trained(rigs, "a", 1, "one")
    old.discard(committed=False)
    assert not old.folder.exists()
    other = rigs.attempt("b", 2)
    other.restore()
    assert read(other) == {"epoch/weights": "one"}


class Interferes(DirectoryBlobStore):
    """Something happens to the files before each upload."""

    before: Callable[[], object] = staticmethod(lambda: None)

    def upload(self, key: str, path: Path, *, sha256: str) -> None:
        self.before()
        super().upload(key, path, sha256=sha256)


def test_a_rename_while_it_is_sent_commits_the_file_that_was_there(rigs: Rigs) -> None:
    rigs.blobs = blobs = Interferes(rigs.folder / "bucket")
    checkpoints = rigs.attempt("a", 1)
    checkpoints.restore()
    save(checkpoints, "one")
    blobs.before = lambda: save(checkpoints, "two")
    mirror = rigs.mirror(checkpoints)
    assert mirror.look()
    other = rigs.attempt("b", 2)
    other.restore()
    assert read(other) == {"epoch/weights": "one"}


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_file_that_is_written_in_place_while_it_is_sent_is_not_committed(rigs: Rigs, when: str) -> None:
    class Writes(DirectoryBlobStore):
        def upload(self, key: str, path: Path, *, sha256: str) -> None:
            for moment in ("before", "after"):
                if moment == when:
                    (checkpoints.folder / "weights").write_text("half a new o")
                else:
                    super().upload(key, path, sha256=sha256)

    rigs.blobs = Writes(rigs.folder / "bucket")
    checkpoints = rigs.attempt("a", 1)
    checkpoints.restore()
    (checkpoints.folder / "weights").write_text("a whole one!")
    mirror = rigs.mirror(checkpoints)
    mirror.tick()
    assert "manifest" not in rigs.item()


def test_a_file_that_moves_between_two_looks_is_left_for_the_next(rigs: Rigs) -> None:
    checkpoints = rigs.attempt("a", 1)
    checkpoints.restore()
    save(checkpoints, "weights")
    threads = WritesMeanwhile(checkpoints.folder / "log")
    mirror = Mirror(checkpoints, threads, rigs.report, every_seconds=0, still_seconds=1)
    looks = [mirror.look() for _ in range(RESTLESS_LOOKS)]
    assert looks == [False] * (RESTLESS_LOOKS - 1) + [True], "what never rests is left out in the end"
    other = rigs.attempt("b", 2)
    other.restore()
    assert read(other) == {"epoch/weights": "weights"}


class WritesMeanwhile(SystemThreads):
    """Whenever somebody waits, a script writes another line."""

    def __init__(self, log: Path) -> None:
        self._log = log

    def flag(self) -> threading.Event:
        log = self._log

        class Line(threading.Event):
            def wait(self, timeout: float | None = None) -> bool:
                with log.open("a") as file:
                    file.write("a line\n")
                return False

        return Line()


class Breaks(DirectoryBlobStore):
    error: Exception | None = None

    def upload(self, key: str, path: Path, *, sha256: str) -> None:
        if self.error is not None:
            raise self.error
        super().upload(key, path, sha256=sha256)


def test_a_network_that_is_away_is_said_once_and_the_mirror_goes_on(rigs: Rigs) -> None:
    rigs.blobs = blobs = Breaks(rigs.folder / "bucket")
    checkpoints = rigs.attempt("a", 1)
    checkpoints.restore()
    mirror = rigs.mirror(checkpoints)
    save(checkpoints, "one")
    blobs.error = Unavailable("no route")
    for _ in range(3):
        mirror.tick()
    assert rigs.reasons() == ["Unavailable: no route"]
    blobs.error = None
    mirror.finish()
    assert rigs.item()["generation"] == 1


def test_a_checkpoint_that_cannot_be_sent_ends_the_mirror_and_not_the_training(rigs: Rigs) -> None:
    rigs.blobs = blobs = Breaks(rigs.folder / "bucket")
    blobs.error = LimitExceeded("weights is too large")
    checkpoints = rigs.attempt("a", 1)
    checkpoints.restore()
    save(checkpoints, "one")
    mirror = rigs.mirror(checkpoints)
    for _ in range(2):
        mirror.tick()
    assert rigs.reasons() == ["weights is too large; no further one is tried"]


def test_what_may_not_leave_stays_and_is_used_on_this_rig_alone(rigs: Rigs) -> None:
    mine = rigs.attempt("a", 1)
    mine.ask = lambda: "the policy says so"
    mine.restore()
    save(mine, "secret")
    mirror = rigs.mirror(mine)
    mirror.tick()
    mirror.finish()
    assert rigs.stored() == []
    assert mine.local_only == "the policy says so"
    again = rigs.attempt("a", 2)
    again.ask = mine.ask
    again.restore()
    assert read(again) == {"epoch/weights": "secret"}


def test_the_mirror_works_by_itself_while_a_training_runs(rigs: Rigs) -> None:
    committed = SystemThreads().flag()

    def report(event: str, **fields: Any) -> None:
        if event == "checkpoint committed":
            committed.set()

    checkpoints = Checkpoints(rigs.folder / "a", KEY, 1, rigs.blobs, rigs.records, report)
    checkpoints.restore()
    with rigs.mirror(checkpoints):
        save(checkpoints, "one")
        assert committed.wait(20)
    assert rigs.item()["generation"] == 1


def test_after_a_restore_that_failed_every_file_is_sent_again(rigs: Rigs) -> None:
    mine = rigs.attempt("a", 1)
    mine.restore()
    save(mine, "the same", "words")
    save(mine, "one")
    assert rigs.mirror(mine).look()
    for key in rigs.stored():
        if rigs.blobs.get(key, max_bytes=1000) == b"the same":
            rigs.blobs.delete(key)
    afresh = rigs.attempt("b", 2)
    afresh.restore()
    assert read(afresh) == {}
    save(afresh, "the same", "words")
    save(afresh, "two")
    assert rigs.mirror(afresh).look()
    assert rigs.item()["generation"] == 2
    last = rigs.attempt("c", 3)
    last.restore()
    assert read(last) == {"words": "the same", "epoch/weights": "two"}


def test_links_are_no_checkpoint(rigs: Rigs, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("of somebody else")
    checkpoints = rigs.attempt("a", 1)
    checkpoints.restore()
    (checkpoints.folder / "link").symlink_to(tmp_path / "secret")
    assert not rigs.mirror(checkpoints).look()
    assert rigs.stored() == []


def test_an_error_of_any_kind_is_said_once_and_the_mirror_goes_on(rigs: Rigs) -> None:
    class Odd(DirectoryBlobStore):
        wrong = True

        def put(self, key: str, data: bytes, **options: Any) -> Any:
            if self.wrong:
                raise ValueError("not JSON")
            return super().put(key, data, **options)

    rigs.blobs = odd = Odd(rigs.folder / "bucket")
    checkpoints = rigs.attempt("a", 1)
    checkpoints.restore()
    save(checkpoints, "one")
    mirror = rigs.mirror(checkpoints)
    mirror.tick()
    mirror.tick()
    assert rigs.reasons() == ["ValueError: not JSON"]
    odd.wrong = False
    assert mirror.look()
