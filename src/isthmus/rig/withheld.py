"""What an attempt left that may not leave its rig: its log, its failure file, what the script wrote beside a model."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from pathlib import Path

from isthmus.rig.contract import Layout

FOLDER = "withheld"
KEPT_SECONDS = 30 * 86_400


def keep(folders: Layout, folder: Path, *, model: bool) -> Path:
    """Move it to a folder of its own below ``folder``, the rig's; return that. What is older than a month goes.

    ``model``: the model's folder is among it; of a run that failed, whatever its script wrote may lie there.

    Raises:
        OSError: it cannot be moved.
    """
    kept = folder.absolute() / FOLDER / folders.root.name
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    _remove_old(kept.parent)
    paths = [folders.log, folders.failure, folders.output_data]
    for path in [*paths, folders.model] if model else paths:
        if os.path.lexists(path):
            os.replace(path, kept / path.name)
    folders.output_data.mkdir(parents=True, exist_ok=True)
    return kept


def _remove_old(folder: Path) -> None:
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > KEPT_SECONDS:
                shutil.rmtree(path)
