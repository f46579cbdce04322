"""Checkpoints of slices that learn: a file for each slice where it runs, and one commit for all.

``slice-K/step-N.npz`` holds arrays, and no pickle (``numpy.savez``). ``committed.json``, which the first worker
writes when every slice's file of a step is on its disk, names the step and each file's SHA-256: it is the commit
point. Whatever it does not name never counted.
"""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from isthmus import documents
from isthmus.errors import DigestMismatch, EnvironmentProblem
from isthmus.model.blob import Sha256

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = dict[str, NDArray[Any]]

COMMIT_FILE = "committed.json"
END_FILE = "ended.json"


class Commit(msgspec.Struct, frozen=True, kw_only=True):
    """``step``: how many steps are done; ``files``: SHA-256 by slice; ``fingerprint``: of what is trained and how."""

    schema: Literal["isthmus/slices-checkpoint/1"] = "isthmus/slices-checkpoint/1"
    fingerprint: Sha256
    step: int
    files: dict[str, Sha256]


class End(msgspec.Struct, frozen=True, kw_only=True):
    """The last ``step`` is committed, as the worker heard that does not commit itself."""

    schema: Literal["isthmus/slices-end/1"] = "isthmus/slices-end/1"
    fingerprint: Sha256
    step: int


class SliceCheckpoints:
    """What one worker has in ``folder``."""

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self._folder = folder
        self._fingerprint = fingerprint

    def write(self, number: int, step: int, state: Mapping[str, NDArray[Any]]) -> str:
        """Write a slice's file and return its SHA-256; it is on the disk then."""
        import numpy as np

        raw = io.BytesIO()
        np.savez(raw, allow_pickle=False, **{name: state[name] for name in sorted(state)})
        self.put(number, step, raw.getvalue())
        return hashlib.sha256(raw.getbuffer()).hexdigest()

    def put(self, number: int, step: int, raw: bytes) -> None:
        """Write a slice's file, as another worker wrote it; it is on the disk then."""
        path = self.path(number, step)
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, raw)

    def raw(self, number: int, step: int) -> bytes | None:
        """Return a slice's file, if it is here."""
        path = self.path(number, step)
        return path.read_bytes() if path.is_file() else None

    def read(self, number: int, step: int, sha256: str) -> Arrays:
        """Return a slice's state.

        Raises:
            EnvironmentProblem: the file is not here.
            DigestMismatch: it is not the one that was committed.
        """
        import numpy as np

        path = self.path(number, step)
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise EnvironmentProblem(
                f"slice {number} goes on from step {step}, whose checkpoint {path} cannot be read "
                f"({error.strerror}); put it there, or train from the beginning in an empty folder"
            ) from error
        if (found := hashlib.sha256(raw).hexdigest()) != sha256:
            raise DigestMismatch(f"{path} has the SHA-256 {found}; {sha256} was committed")
        try:
            with np.load(io.BytesIO(raw), allow_pickle=False) as arrays:
                return dict(arrays)
        except (ValueError, zipfile.BadZipFile) as error:
            raise DigestMismatch(f"{path} holds no plain arrays: {error}") from error

    def commit(self, step: int, files: Mapping[str, str]) -> None:
        """Make a checkpoint the one that all go on from."""
        document = Commit(fingerprint=self._fingerprint, step=step, files=dict(files))
        self._folder.mkdir(parents=True, exist_ok=True)
        _replace(self._folder / COMMIT_FILE, documents.encode(document))

    def committed(self) -> Commit | None:
        """Return the newest commit, if there is one.

        Raises:
            EnvironmentProblem: it is another training's.
            InvalidDocument: it is none.
        """
        path = self._folder / COMMIT_FILE
        if not path.is_file():
            return None
        found = documents.decode(Commit, path.read_bytes(), str(path))
        if found.fingerprint != self._fingerprint:
            raise EnvironmentProblem(
                f"{path} is of another training (network, cuts or recipe differ); give this one an empty folder"
            )
        return found

    def end(self, step: int) -> None:
        """Note that the last step was committed by the first worker; it is on the disk then."""
        self._folder.mkdir(parents=True, exist_ok=True)
        _replace(self._folder / END_FILE, documents.encode(End(fingerprint=self._fingerprint, step=step)))

    def has_ended(self, step: int) -> bool:
        """Whether this worker knows that the last step is committed.

        Raises:
            EnvironmentProblem, InvalidDocument: as ``committed``.
        """
        path = self._folder / END_FILE
        if path.is_file():
            found = documents.decode(End, path.read_bytes(), str(path))
            return found.fingerprint == self._fingerprint and found.step == step
        commit = self.committed()
        return commit is not None and commit.step == step

    def path(self, number: int, step: int) -> Path:
        """Return where a slice's file of a step lies."""
        return self._folder / f"slice-{number}" / f"step-{step:08d}.npz"

    def forget(self, number: int, before: int) -> None:
        """Remove a slice's files of steps before one that is committed, and what a life that was killed left half
        written."""
        folder = self.path(number, 0).parent
        for path in (*folder.glob("step-*.npz"), *folder.glob(".step-*")):
            if path.name < self.path(number, before).name:
                path.unlink(missing_ok=True)


def _replace(path: Path, raw: bytes) -> None:
    """Write a file so that it is there whole or not at all, whenever the machine stops."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
