"""What a training container of SageMaker's is given to run: the job's code with isthmus's own program around it.

A gzipped tar, as ``sagemaker_submit_directory`` has to be (aws/sagemaker-training-toolkit, README); the job's code is
a zip. The same job makes the same bytes.
"""

from __future__ import annotations

import gzip
import io
import json
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import isthmus
from isthmus.errors import InvalidJob
from isthmus.frameworks.contained import HOME, JOB_FILE, PROGRAM, START
from isthmus.model.units import GIB, format_bytes

MAX_UNPACKED_BYTES = GIB
PARTS = ("__init__.py", "errors.py", "frameworks")
"""What of isthmus a training environment needs (``isthmus.frameworks``)."""


def make(code: Path, job: dict[str, Any], target: Path) -> None:
    """Write the archive.

    Raises:
        InvalidJob: the code archive is none, is too large, leads out of its folder, or has a file of our name.
    """
    with (
        target.open("wb") as raw,
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0, compresslevel=6) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, data, mode in _code(code, job["entry_point"]):
            _add(archive, name, data, mode)
        for name, data in _ours(job):
            _add(archive, name, data, 0o644)


def _add(archive: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), mode
    archive.addfile(entry, io.BytesIO(data))


def _ours(job: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    yield PROGRAM, START.encode()
    yield f"{HOME}/{JOB_FILE}", json.dumps(job, sort_keys=True).encode()
    package = Path(isthmus.__file__).parent
    for part in PARTS:
        paths = [package / part] if part.endswith(".py") else sorted((package / part).rglob("*.py"))
        for path in paths:
            yield f"{HOME}/isthmus/{path.relative_to(package).as_posix()}", path.read_bytes()


def _code(path: Path, entry_point: str) -> Iterator[tuple[str, bytes, int]]:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            _check(entries, entry_point)
            for entry in entries:
                executable = entry.external_attr >> 16 & stat.S_IXUSR
                yield entry.filename, archive.read(entry), 0o755 if executable else 0o644
    # RuntimeError: an entry is encrypted.
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, RuntimeError) as error:
        raise InvalidJob(f"the code archive cannot be unpacked: {error}") from error


def _check(entries: list[zipfile.ZipInfo], entry_point: str) -> None:
    total = sum(entry.file_size for entry in entries)
    if total > MAX_UNPACKED_BYTES:
        size, limit = format_bytes(total), format_bytes(MAX_UNPACKED_BYTES)
        raise InvalidJob(f"the code archive is {size} unpacked; at most {limit} is")
    names = [entry.filename for entry in entries]
    if entry_point not in names:
        raise InvalidJob(f"the code archive has no {entry_point}")
    for entry in entries:
        path = PurePosixPath(entry.filename)
        if path.is_absolute() or ".." in path.parts or "\\" in entry.filename:
            raise InvalidJob(f"the code archive's entry {entry.filename!r} leads out of its folder")
        if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
            raise InvalidJob(f"the code archive's entry {entry.filename!r} is neither a file nor a folder")
        if path.parts[0] in (PROGRAM, HOME):
            raise InvalidJob(
                f"the code archive's entry {entry.filename!r} has a name that isthmus uses itself"
            )
