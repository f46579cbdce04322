"""Folders of this machine whose datasets are read in place: which they are, and where a manifest's files are in them.

A manifest names files; it was written elsewhere, perhaps by somebody else. So no name leads out of the dataset's own
folder: not by its parts, which the manifest's schema refuses, and not by a link.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from isthmus.errors import DigestMismatch, EnvironmentProblem, InvalidDocument, MissingFile, Refused
from isthmus.model.dataset import DatasetFile, InPlace
from isthmus.rig.settings import FILE, RigFile


@dataclass(frozen=True)
class Facts:
    """What changes whenever a file's bytes do, and what says that it is another file of the same name."""

    device: int
    inode: int
    size_bytes: int
    modified_ns: int
    changed_ns: int
    """Nobody can set this one back, as ``touch`` can the modification's (inode(7))."""

    @classmethod
    def of(cls, found: os.stat_result) -> Facts:
        """Return a file's."""
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@dataclass(frozen=True)
class Found:
    """A file of a dataset: where it really lies, and what it was when it was looked for."""

    file: DatasetFile
    path: Path
    facts: Facts


def data_roots(settings: RigFile, folder: Path) -> dict[str, Path]:
    """Return the data roots by name; ``folder`` is where the agent works.

    Raises:
        InvalidDocument: one holds the agent's folder or lies in it: a manifest could name the rig's key, or the
            data of another.
    """
    roots, own = {}, folder.resolve()
    for name, path in (settings.data_roots or {}).items():
        root = Path(path).resolve()
        if own.is_relative_to(root) or root.is_relative_to(own):
            raise InvalidDocument(
                f"{FILE}: data_roots.{name} needs a folder apart from the agent's own, {own}; it is {root}"
            )
        roots[name] = Path(path)
    return roots


def home_of(data: InPlace, roots: Mapping[str, Path]) -> Path:
    """Return the real folder of a dataset.

    Raises:
        EnvironmentProblem: this agent has no such root, or its folder is not there.
        MissingFile: there is no such folder below the root.
        Refused: it leads out of the root.
    """
    if data.root not in roots:
        has = ", ".join(sorted(roots)) or "none"
        raise EnvironmentProblem(f"needs the data root {data.root} in the agent's {FILE}; it has {has}")
    try:
        root = roots[data.root].resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise EnvironmentProblem(
            f"needs the folder of the data root {data.root}; it is not there: {error}"
        ) from error
    home = _real(root / (data.folder or ""), f"the folder {data.folder} of the data root {data.root}")
    if not home.is_relative_to(root):
        raise Refused(f"the folder {data.folder} of the data root {data.root} is a link that leads out of it")
    return home


def find(file: DatasetFile, data: InPlace, home: Path) -> Found:
    """Return where a file lies; its bytes are not read.

    Raises:
        MissingFile: there is no file of that name.
        DigestMismatch: it has another size than promised.
        Refused: its name leads out of the dataset's folder.
    """
    what = f"{file.path} of {data}"
    path = _real(home / file.path, what)
    if not path.is_relative_to(home):
        raise Refused(f"{what} is a link that leads out of the dataset's folder")
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode):
        raise MissingFile(f"needs {what} as a file, as it was pushed; it is something else now")
    if found.st_size != file.size_bytes:
        raise DigestMismatch(
            f"needs {what} as it was pushed, with {file.size_bytes} bytes; it has {found.st_size} now: put it back, or "
            "push the dataset again"
        )
    return Found(file, path, Facts.of(found))


def _real(path: Path, what: str) -> Path:
    try:
        return path.resolve(strict=True)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingFile(
            f"needs {what}, which was there when the dataset was pushed; it is gone: put it back, or push the dataset "
            "again"
        ) from error
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        raise EnvironmentProblem(f"needs {what}, which cannot be read: {error}") from error
