"""A folder as a dataset, and a folder as a code archive."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from isthmus.errors import InvalidInput
from isthmus.model.dataset import DatasetFile
from isthmus.model.units import KIB, MIB, format_bytes
from isthmus.ports import GoOn, always
from isthmus.sync.run_folder import is_run_folder

EPOCH = (1980, 1, 1, 0, 0, 0)
SKIPPED = frozenset({"__pycache__", "node_modules"})
MAX_CODE_BYTES = 50 * MIB
PIECE_BYTES = 256 * KIB
"""As ``hashlib.file_digest`` reads."""


def visible_files(folder: Path) -> Iterator[Path]:
    """Yield the files below ``folder`` in order; hidden ones and caches are left out."""
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_file() and not any(part.startswith(".") or part in SKIPPED for part in parts):
            yield path


def code_files(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder of code in order: the visible ones, without what runs left in folders below it."""
    runs = {path for path in folder.rglob("*") if path.is_dir() and is_run_folder(path)}
    yield from (path for path in visible_files(folder) if runs.isdisjoint(path.parents))


def collect(folder: Path, *, prefix: str | None = None) -> tuple[DatasetFile, ...]:
    """Hash the files of a dataset.

    ``prefix``: where another tool will put them below the dataset's folder; without it they go
    where their content says.

    Raises:
        InvalidInput: no such folder, or nothing in it.
    """
    if not folder.is_dir():
        raise InvalidInput(f"{folder} is not a folder")
    files = []
    for path in visible_files(folder):
        name = path.relative_to(folder).as_posix()
        key = f"{prefix.strip('/')}/{name}" if prefix else None
        files.append(
            DatasetFile(path=name, sha256=file_sha256(path), size_bytes=path.stat().st_size, key=key)
        )
    if not files:
        raise InvalidInput(f"{folder} holds no files")
    return tuple(files)


def pack_code(folder: Path, archive: Path, changed: Mapping[str, bytes] | None = None) -> None:
    """Zip a folder of code so that the same files give the same bytes; what runs left in it is left out.

    ``changed``: files by their names in the archive, which are added, or put in the place of those of the folder.

    Raises:
        InvalidInput: empty, or larger than ``MAX_CODE_BYTES``.
    """
    there = {path.relative_to(folder).as_posix(): path for path in code_files(folder)}
    files: dict[str, Path | bytes] = {**there, **(changed or {})}
    size = sum(len(f) if isinstance(f, bytes) else f.stat().st_size for f in files.values())
    if not there:
        raise InvalidInput(f"{folder} holds no code")
    if size > MAX_CODE_BYTES:
        raise InvalidInput(
            f"the code in {folder} is {format_bytes(size)}; at most {format_bytes(MAX_CODE_BYTES)} is taken: "
            "keep data and models out of it"
        )
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        # In the order of the paths' parts, as it always was: the same code has the same digest.
        for name in sorted(files, key=lambda name: name.split("/")):
            file = files[name]
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            out.writestr(entry, file if isinstance(file, bytes) else file.read_bytes())


def file_sha256(path: Path, go_on: GoOn = always) -> str:
    """Return the SHA-256 (hex) of a file, read in pieces; ``go_on`` is asked between them."""
    with path.open("rb", buffering=0) as stream:
        return stream_sha256(stream, go_on)


def stream_sha256(stream: io.RawIOBase, go_on: GoOn = always) -> str:
    """Return the SHA-256 (hex) of what is left of a stream."""
    digest, buffer = hashlib.sha256(), memoryview(bytearray(PIECE_BYTES))
    while size := stream.readinto(buffer):
        digest.update(buffer[:size])
        go_on()
    return digest.hexdigest()
