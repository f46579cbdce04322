"""A bundle as one zip file: written the same way every time, unpacked as if it came from an enemy."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from isthmus.durable import sync_folder
from isthmus.errors import Conflict, InvalidModel, LimitExceeded
from isthmus.inference.files import is_safe_path, list_files, sha256_file
from isthmus.model.units import GIB, KIB, format_bytes

LAYER_PREFIX = "isthmus/model/"
"""Where a layer's content lies below ``/opt``: the function then finds ``/opt/isthmus/model``."""

MAX_BUNDLE_BYTES = 2 * GIB
MAX_BUNDLE_FILES = 1024
CHUNK_BYTES = 256 * KIB
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The first moment that zip can name: an archive's bytes depend on its content alone."""


@dataclass(frozen=True)
class Packed:
    """A written archive."""

    path: Path
    sha256: str
    size_bytes: int


def pack_bundle(folder: Path, zip_path: Path, *, prefix: str = "") -> Packed:
    """Write a folder's files as a zip whose bytes depend on names and content alone.

    Sorted, stored without compression (deflate's output differs between zlib versions, and weights
    barely shrink), one timestamp, mode 0644. ``prefix`` (``LAYER_PREFIX``) goes before each name.

    Raises:
        InvalidModel: the folder is empty, or holds a link or something else that is no plain file.
    """
    names = list_files(folder)
    if not names:
        raise InvalidModel(f"{folder.name} holds no files to pack")
    partial = zip_path.with_name(f".{zip_path.name}.partial")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
        for name in names:
            entry = zipfile.ZipInfo(prefix + name, EPOCH)
            entry.create_system = 3
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            entry.file_size = (folder / name).stat().st_size
            with (folder / name).open("rb") as source, archive.open(entry, "w") as target:
                shutil.copyfileobj(source, target, CHUNK_BYTES)
    os.replace(partial, zip_path)
    return Packed(zip_path, sha256_file(zip_path), zip_path.stat().st_size)


def unpack_bundle(zip_path: Path, into: Path, *, prefix: str = "", max_bytes: int = MAX_BUNDLE_BYTES) -> Path:
    """Unpack below ``into``, which appears whole or not at all, and survives a loss of power from then on; return it.

    Names, kinds and declared sizes are all checked before the first byte is written, and no file
    may turn out larger than declared.

    Raises:
        InvalidModel: not a zip, an unsafe or repeated name, a link, encrypted, or damaged.
        LimitExceeded: more than ``max_bytes`` or ``MAX_BUNDLE_FILES``.
        Conflict: ``into`` exists.
    """
    if into.exists():
        raise Conflict(f"{into.name} exists already")
    into.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{into.name}.", dir=into.parent))
    try:
        with zipfile.ZipFile(zip_path) as archive:
            for entry, name in _checked(archive, prefix, max_bytes):
                _extract(archive, entry, partial / name)
        for folder in [partial, *(path for path in partial.rglob("*") if path.is_dir())]:
            sync_folder(folder)
        # mkdtemp made it for its owner alone; the process that serves may be another.
        partial.chmod(0o755)
        os.rename(partial, into)
        sync_folder(into.parent)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, ValueError) as error:
        raise InvalidModel(f"{zip_path.name} cannot be unpacked: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return into


def _checked(archive: zipfile.ZipFile, prefix: str, max_bytes: int) -> list[tuple[zipfile.ZipInfo, str]]:
    entries = [entry for entry in archive.infolist() if not _is_folder(entry)]
    total = sum(entry.file_size for entry in entries)
    if len(archive.infolist()) > MAX_BUNDLE_FILES or total > max_bytes:
        raise LimitExceeded(
            f"the archive holds {len(archive.infolist())} entries and {format_bytes(total)} unpacked; "
            f"at most {MAX_BUNDLE_FILES} and {format_bytes(max_bytes)} are unpacked"
        )
    checked = [(entry, _safe_name(entry, prefix)) for entry in entries]
    if len({name.casefold() for _, name in checked}) != len(checked):
        raise InvalidModel("the archive names a file twice")
    return checked


def _is_folder(entry: zipfile.ZipInfo) -> bool:
    return entry.is_dir() and entry.file_size == 0 and is_safe_path(entry.filename.rstrip("/"))


def _safe_name(entry: zipfile.ZipInfo, prefix: str) -> str:
    name = entry.orig_filename
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if not name.startswith(prefix) or not is_safe_path(name):
        raise InvalidModel(f"the archive holds {name!r}, which is not a safe path below {prefix or 'it'!r}")
    if kind not in (0, stat.S_IFREG):
        raise InvalidModel(f"the archive holds {name!r}, which is a link or a special file")
    if entry.header_offset < 0:
        raise InvalidModel(f"the archive's directory is damaged at {name!r}")
    if entry.flag_bits & 0x1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InvalidModel(f"the archive holds {name!r} encrypted, or packed in an unusual way")
    return name.removeprefix(prefix)


def _extract(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with archive.open(entry) as source, path.open("xb") as target:
        while piece := source.read(CHUNK_BYTES):
            written += len(piece)
            if written > entry.file_size:
                raise InvalidModel(f"{entry.filename} is larger than the archive says")
            target.write(piece)
        target.flush()
        os.fsync(target.fileno())
