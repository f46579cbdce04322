"""A script, or another rig, that would have the agent or its operator touch what is not theirs."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from rig_world import KEY

from isthmus import documents
from isthmus.adapters.local.blobs import DirectoryBlobStore
from isthmus.adapters.local.records import MemoryRecords
from isthmus.adapters.system import SystemThreads
from isthmus.errors import Refused
from isthmus.model import layout
from isthmus.model.bundle import BundleFile
from isthmus.rig import mirror as mirror_module
from isthmus.rig import orphans, output, runner
from isthmus.rig.checkpoints import Checkpoints
from isthmus.rig.contract import Layout
from isthmus.rig.mirror import Mirror, snapshot
from isthmus.rig.output import OUTPUT_FILE, Output
from isthmus.rig.spool import Orphan, Spool


@pytest.fixture
def attempt(tmp_path: Path) -> Layout:
    made = Layout(tmp_path / "attempt")
    made.make()
    made.log.write_text("log")
    return made


def secret(tmp_path: Path) -> Path:
    path = tmp_path / "host" / "private.key"
    path.parent.mkdir()
    path.write_text("secret")
    return path


def test_links_that_a_script_leaves_are_neither_read_nor_written(attempt: Layout, tmp_path: Path) -> None:
    key = secret(tmp_path)
    attempt.output_data.rmdir()
    attempt.output_data.symlink_to(key.parent)
    (attempt.output / "metrics.json").symlink_to(key)
    attempt.failure.symlink_to(key)
    output.secure(attempt.root, {"loss": 0.5})
    assert {name: path.read_text() for name, path in output.files(attempt.root)} == {
        "metrics.json": '{"loss": 0.5}',
        "train.log": "log",
    }
    assert key.read_text() == "secret"
    assert "secret" not in runner._with_failure("tail", attempt.failure)


def test_pipes_hold_nobody_up(attempt: Layout) -> None:
    os.mkfifo(attempt.output / "metrics.json")
    os.mkfifo(attempt.failure)
    output.secure(attempt.root, {})
    assert runner._with_failure("tail", attempt.failure) == "tail"


def told(**changes: Any) -> MemoryRecords:
    """A table in which a rig wrote an orphan of its own making."""
    item = {"job_key": KEY, "fencing": 1, "rig": "rig-1", "cause": "", "since": ""}
    records = MemoryRecords()
    place = {"pk": layout.rig_pk("rig-1"), "sk": layout.orphan_sk(KEY, 1)}
    records.put({**item, **changes, **place})
    return records


def test_a_path_in_the_table_removes_nothing_here(tmp_path: Path) -> None:
    key, spool = secret(tmp_path), Spool(tmp_path / "rig")
    records = told(path=str(key.parent), output=layout.attempt_output(KEY, 1))
    orphans.discard(orphans.find(KEY, "rig-1", spool, records), spool, records)
    assert key.exists()
    assert orphans.of_rig("rig-1", records) == []


@pytest.mark.parametrize("changes", [{"rig": "rig-2"}, {"job_key": "f" * 40}, {"fencing": 2}])
def test_an_item_that_speaks_of_another_orphan_is_none(changes: dict[str, Any]) -> None:
    assert orphans.of_rig("rig-1", told(**changes)) == []


@pytest.mark.parametrize("path", ["../../evil", "/evil", "data/../../evil"])
def test_a_list_of_files_that_leads_out_of_the_folder_is_refused(path: str, tmp_path: Path) -> None:
    spool, blobs, prefix = (
        Spool(tmp_path / "rig"),
        DirectoryBlobStore(tmp_path / "bucket"),
        layout.attempt_output(KEY, 1),
    )
    digest = hashlib.sha256(b"evil").hexdigest()
    listed = Output(files=(BundleFile(path=path, sha256=digest, size_bytes=4),))
    blobs.put(f"{prefix}{OUTPUT_FILE}", documents.encode(listed))
    records = told(output=prefix)
    found = orphans.find(KEY, "rig-1", spool, records)
    with pytest.raises(Refused, match="no path below a folder"):
        orphans.claim(found, tmp_path / "to" / "in", spool, records, blobs)
    assert list((tmp_path / "to" / "in").iterdir()) == []
    assert orphans.of_rig("rig-1", records) == [found]


def test_files_of_another_job_are_no_orphan_s(tmp_path: Path) -> None:
    spool, records = Spool(tmp_path / "rig"), told(output="jobs/another/")
    found = orphans.find(KEY, "rig-1", spool, records)
    with pytest.raises(Refused, match="is not where attempt 1"):
        orphans.claim(found, tmp_path / "to", spool, records, DirectoryBlobStore(tmp_path / "bucket"))


def test_an_orphan_s_files_are_found_after_its_folder_moved(tmp_path: Path) -> None:
    left = Layout(tmp_path / "rig" / "results" / f"{KEY}-1")
    left.make()
    left.log.write_text("log")
    spool = Spool(tmp_path / "rig")
    orphan = Orphan(job_key=KEY, fencing=1, rig="rig-1", cause="", since="", path="/once/was/here")
    spool.keep(orphan)
    blobs = DirectoryBlobStore(tmp_path / "bucket")
    assert orphans.claim(orphan, tmp_path / "to", spool, MemoryRecords(), blobs) == ["train.log"]
    assert not left.root.exists()


def test_a_checkpoint_that_is_a_link_by_now_is_not_mirrored(tmp_path: Path) -> None:
    key, blobs = secret(tmp_path), DirectoryBlobStore(tmp_path / "bucket")
    kept = Checkpoints(tmp_path / "ck", KEY, 1, blobs, MemoryRecords(), lambda *_, **__: None)
    kept.restore()
    (kept.folder / "weights").symlink_to(key)
    assert snapshot(kept.folder) == {}
    mirror = Mirror(kept, SystemThreads(), lambda *_, **__: None, every_seconds=60, still_seconds=0)
    # As it is when the path led to a file at one look, and to the key at the next.
    seen = {"weights": mirror_module._signature(key)}
    assert not mirror._take(seen)
    assert list(blobs.keys("")) == []


def test_a_file_whose_name_is_no_text_keeps_no_other_from_being_mirrored(tmp_path: Path) -> None:
    (tmp_path / "weights").write_text("1")
    (tmp_path / os.fsdecode(b"\xff")).write_text("2")
    assert list(snapshot(tmp_path)) == ["weights"]
