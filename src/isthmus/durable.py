"""Files that outlive a loss of power: first the bytes are on the disk, then a name for them, then the name is too.

A rename alone promises neither (Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014): after a power cut
the name may lead to an empty file, or still to the old one. A folder's names are safe once the folder was synced.
"""

from __future__ import annotations

import os
from pathlib import Path


def write_durably(path: Path, data: bytes) -> None:
    """Replace a file: a loss of power leaves the old one or the new one, and after this call the new one.

    One process at a time may write it. Raises OSError where the disk is full or read-only.
    """
    partial = path.with_name(f".{path.name}.new")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
    sync_folder(path.parent)


def sync_file(path: Path) -> None:
    """Make what somebody else wrote to a file survive a loss of power; its name is its folder's business."""
    _sync(path)


def sync_folder(folder: Path) -> None:
    """Make the names in this folder, as they are now, survive a loss of power; what they name is not its business."""
    _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, as far as there are none, so that they survive a loss of power."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)
