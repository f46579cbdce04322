"""Unpacks code archives: zip, checked as a whole before the first byte is written."""

from __future__ import annotations

import shutil
import stat
import zipfile
from pathlib import Path, PurePosixPath

from isthmus.errors import InvalidJob
from isthmus.model.units import GIB, format_bytes

MAX_UNPACKED_BYTES = GIB
MAX_FILES = 20_000


def unpack(archive: Path, target: Path, *, max_bytes: int = MAX_UNPACKED_BYTES) -> None:
    """Unpack ``archive`` into the folder ``target``.

    Only regular files and folders below ``target`` are taken: no absolute paths, no ``..``, no
    links, no devices, nothing encrypted, no name twice.

    Raises:
        InvalidJob: it is no zip file, holds something else, or is larger than ``max_bytes`` unpacked.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = opened.infolist()
            _check(entries, max_bytes)
            for entry in entries:
                _extract(opened, entry, target)
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        raise InvalidJob(f"the code archive cannot be unpacked: {error}") from error


def _check(entries: list[zipfile.ZipInfo], max_bytes: int) -> None:
    if len(entries) > MAX_FILES:
        raise InvalidJob(f"the code archive has {len(entries)} entries; at most {MAX_FILES} are unpacked")
    # A reader stops at the size that an entry states, so the statements' sum bounds what is written.
    total = sum(entry.file_size for entry in entries)
    if total > max_bytes:
        size, limit = format_bytes(total), format_bytes(max_bytes)
        raise InvalidJob(f"the code archive is {size} unpacked; at most {limit} is")
    names = [_relative(entry) for entry in entries]
    if len(set(names)) < len(names):
        raise InvalidJob("the code archive has two entries of the same name")
    for entry in entries:
        _check_kind(entry)


def _relative(entry: zipfile.ZipInfo) -> PurePosixPath:
    path = PurePosixPath(entry.filename)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\\" in entry.filename:
        raise InvalidJob(f"the code archive's entry {entry.filename!r} leads out of its folder")
    return path


def _check_kind(entry: zipfile.ZipInfo) -> None:
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise InvalidJob(f"the code archive's entry {entry.filename!r} is neither a file nor a folder")
    if entry.flag_bits & 0x1:
        raise InvalidJob(f"the code archive's entry {entry.filename!r} is encrypted")


def _extract(opened: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path) -> None:
    path = target / _relative(entry)
    if entry.is_dir():
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with opened.open(entry) as source, path.open("xb") as file:
        shutil.copyfileobj(source, file)
    path.chmod(0o755 if entry.external_attr >> 16 & stat.S_IXUSR else 0o644)
