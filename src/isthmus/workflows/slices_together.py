"""The weights of slices that learned, put together again from what each worker kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isthmus import documents
from isthmus.errors import EnvironmentProblem
from isthmus.workflows.slice_checkpoints import COMMIT_FILE, Commit, SliceCheckpoints

if TYPE_CHECKING:
    from numpy.typing import NDArray

KEPT = ("parameter", "statistic")
LOSS = "loss"


def weights_together(folders: Sequence[Path]) -> tuple[int, dict[str, NDArray[Any]]]:
    """Return the committed step, and the whole network's parameters and statistics by name. ``folders``: the workers'
    folders of checkpoints, in any order; one of them has the commit.

    Raises:
        EnvironmentProblem: none has it, or a slice's file is in none of them.
        DigestMismatch: a slice's file is not the one that was committed.
    """
    commit = _commit(folders)
    return commit.step, {name: array for kind, name, array in _arrays(folders, commit) if kind in KEPT}


def last_losses(folders: Sequence[Path]) -> dict[str, float]:
    """Return the mean of each of the network's losses in the last step; of checkpoints that were put together.

    Raises:
        As ``weights_together``.
    """
    commit = _commit(folders)
    return {
        name: float(array[-1].mean())
        for kind, name, array in _arrays(folders, commit)
        if kind == LOSS and len(array)
    }


def _commit(folders: Sequence[Path]) -> Commit:
    committed = [folder / COMMIT_FILE for folder in folders if (folder / COMMIT_FILE).is_file()]
    if len(committed) != 1:
        raise EnvironmentProblem(
            f"the workers' folders need one {COMMIT_FILE} among them; {len(committed)} of {len(folders)} have one"
        )
    return documents.decode(Commit, committed[0].read_bytes(), str(committed[0]))


def _arrays(folders: Sequence[Path], commit: Commit) -> Iterator[tuple[str, str, Any]]:
    """Yield kind, name and array of all that the slices kept."""
    for number, sha256 in sorted(commit.files.items()):
        held = [SliceCheckpoints(folder, commit.fingerprint) for folder in folders]
        there = [each for each in held if each.path(int(number), commit.step).is_file()]
        if not there:
            raise EnvironmentProblem(
                f"slice {number} has no file of step {commit.step} in these folders; name its worker's folder as well"
            )
        for key, array in there[0].read(int(number), commit.step, sha256).items():
            kind, _, name = key.partition(":")
            yield kind, name, array
