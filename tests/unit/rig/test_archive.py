from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import pytest

from isthmus.errors import InvalidJob
from isthmus.rig.archive import unpack


def test_files_folders_and_execute_bits_are_unpacked(tmp_path: Path) -> None:
    script = zipfile.ZipInfo("tools/run.sh")
    script.external_attr = (stat.S_IFREG | 0o755) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("train.py", "x = 1\n")
        archive.writestr(script, "#!/bin/sh\n")
        archive.mkdir("empty")
    unpack(tmp_path / "a.zip", tmp_path / "out")
    assert (tmp_path / "out/train.py").read_text() == "x = 1\n"
    assert (tmp_path / "out/tools/run.sh").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "out/empty").is_dir()


@pytest.mark.parametrize("name", ["../evil.py", "a/../../evil.py", "/etc/evil", "a\\..\\evil.py"])
def test_an_entry_that_leads_out_is_refused_before_anything_is_written(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("fine.py", "")
        archive.writestr(name, "")
    with pytest.raises(InvalidJob, match="leads out"):
        unpack(tmp_path / "a.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_link_is_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(InvalidJob, match="neither a file nor a folder"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


def test_the_stated_size_is_limited_and_the_limit_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", b"\0" * 5000)
    with pytest.raises(InvalidJob, match=r"4\.9 KiB unpacked; at most 1\.0 KiB"):
        unpack(tmp_path / "a.zip", tmp_path / "out", max_bytes=1024)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_the_same_name_twice_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.py", "1")
        archive.writestr("./a.py", "2")
    with pytest.raises(InvalidJob, match="same name"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


def test_what_is_no_zip_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"not a zip")
    with pytest.raises(InvalidJob, match="cannot be unpacked"):
        unpack(tmp_path / "a.zip", tmp_path / "out")
