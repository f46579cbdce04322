"""The folder into which a run's files go: marked, so that no code is packed with it, and cleared for the next run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from isthmus.errors import InvalidInput

SUFFIX = ".run"
MARKER = ".isthmus-run"
"""A JSON list of the files that runs left in the folder, by their names in it."""


def is_run_folder(folder: Path) -> bool:
    """Whether what runs leave goes there: by its marker, or by the name that it has by default."""
    return folder.name.endswith(SUFFIX) or (folder / MARKER).is_file()


def check_apart(out: Path, code: Path) -> None:
    """Ask whether what a run leaves in ``out`` can be told from the code, if it lies within the code's folder.

    Raises:
        InvalidInput: ``out`` is the code's folder itself, or has files that no run left.
    """
    inside, home = out.resolve(), code.resolve()
    if not inside.is_relative_to(home):
        return
    has_own = out.is_dir() and any(out.iterdir()) and not is_run_folder(out)
    if inside == home or has_own:
        raise InvalidInput(
            f"what a run leaves needs a folder of its own, and {out} has code: name one that is empty or not there yet"
        )


def clear(folder: Path) -> None:
    """Remove what earlier runs left, and nothing else that lies there."""
    for name in _noted(folder):
        (folder / name).unlink(missing_ok=True)
    (folder / MARKER).unlink(missing_ok=True)


def note(folder: Path, names: Iterable[str]) -> None:
    """Write down that a run leaves these files; called before they are there."""
    folder.mkdir(parents=True, exist_ok=True)
    noted = sorted({*_noted(folder), *names})
    (folder / MARKER).write_text(json.dumps(noted) + "\n", encoding="utf-8")


def _noted(folder: Path) -> Iterator[str]:
    try:
        noted = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    for name in noted if isinstance(noted, list) else ():
        path = PurePosixPath(str(name))
        if not path.is_absolute() and ".." not in path.parts and path.parts:
            yield str(path)
