from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from isthmus.errors import EnvironmentProblem
from isthmus.model.messages import AttemptState, Outcome, Work
from isthmus.rig.spool import VERSION, Entry, Orphan, Spool

WORK = Work(job_key="job", fencing=1, job="j", manifest="m", token="t", execution="e", team="a")
ENTRY = Entry(job_key="job", fencing=1, run_id="run", work=WORK)
DONE = Outcome(state=AttemptState.SUCCEEDED, output="out/", metrics={"loss": 0.5}, seconds=2.0)
ORPHAN = Orphan(job_key="job", fencing=1, rig="rig-1", cause="attempt 2 has it", since="now", path="/x")


def test_an_attempt_is_remembered_from_its_taking_to_its_delivery(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.begin(ENTRY)
    assert Spool(tmp_path).entries() == [ENTRY]
    ended = spool.end(ENTRY, DONE)
    assert Spool(tmp_path).entries() == [ended]
    assert (ended.work, ended.outcome) == (WORK, DONE)
    spool.remove(ended)
    assert Spool(tmp_path).entries() == []


def test_orphans_are_kept_until_somebody_takes_them(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.keep(ORPHAN)
    told = msgspec.structs.replace(ORPHAN, told=True)
    spool.keep(told)
    spool.keep(msgspec.structs.replace(ORPHAN, fencing=2))
    assert spool.orphans()[0] == told
    spool.forget(told)
    assert [orphan.fencing for orphan in spool.orphans()] == [2]


def test_what_the_journal_of_an_earlier_version_says_is_taken_over_once(tmp_path: Path) -> None:
    journal = tmp_path / "journal.json"
    journal.write_text(json.dumps({"job_key": "old", "fencing": 3, "run_id": "run"}))
    spool = Spool(tmp_path)
    assert spool.entries() == [Entry(job_key="old", fencing=3, run_id="run")]
    assert not journal.exists()
    assert len(spool.entries()) == 1


def test_a_committed_entry_survives_the_kill_of_its_writer(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path; from isthmus.rig.spool import Entry, Spool\n"
        "Spool(Path(sys.argv[1])).begin(Entry(job_key='k', fencing=1, run_id='r'))\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert done.returncode == -9
    assert [entry.job_key for entry in Spool(tmp_path).entries()] == ["k"]


def test_every_commit_is_synced_to_the_disk(tmp_path: Path) -> None:
    with Spool(tmp_path)._open() as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL (sqlite.org, pragma)


def test_a_full_disk_is_said_with_what_to_do_and_passes_when_there_is_space(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.begin(ENTRY)
    with spool._open() as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")  # SQLITE_FULL, as a disk without space
    large = msgspec.structs.replace(DONE, cause="x" * 100_000)
    with pytest.raises(
        EnvironmentProblem, match=r"spool\.db cannot be used \(database or disk is full\).*free space"
    ):
        spool.end(ENTRY, large)
    assert spool.entries() == [ENTRY]
    assert spool.end(ENTRY, large).outcome == large


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentProblem, match="make its folder writable"):
        Spool(tmp_path / "file" / "rig").check()


def test_a_damaged_file_and_one_of_a_newer_version_are_refused(tmp_path: Path) -> None:
    (tmp_path / "spool.db").write_bytes(b"no database at all, and long enough to be read as one" * 20)
    with pytest.raises(EnvironmentProblem, match="move the file away"):
        Spool(tmp_path).check()
    newer = tmp_path / "newer"
    Spool(newer).check()
    connection = sqlite3.connect(newer / "spool.db")
    connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.close()
    with pytest.raises(EnvironmentProblem, match="a newer isthmus wrote it"):
        Spool(newer).entries()
