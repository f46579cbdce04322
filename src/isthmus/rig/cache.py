"""A rig's store of files by digest: what several jobs and agents read is fetched once, and verified at every use."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from isthmus.errors import EnvironmentProblem
from isthmus.model.units import MIB, format_bytes
from isthmus.ports import BlobStore, GoOn, always
from isthmus.rig.shelf import SPARE_BYTES, Shelf
from isthmus.sync.collect import file_sha256 as file_digest
from isthmus.sync.download import CONNECTIONS, download
from isthmus.sync.transfer import Wanted

__all__ = ["CachedFile", "FileCache", "file_digest"]
HASHERS = 4
SMALL_BYTES = MIB
"""Hashed in less time than threads are started in."""
TRIES = 3
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
CLOSED = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


@dataclass(frozen=True)
class CachedFile:
    """A file of a dataset: its bucket key, what it must be, and where an attempt reads it."""

    key: str
    sha256: str
    size_bytes: int
    target: Path


class FileCache:
    """Files below ``root``, named by their SHA-256. A file appears by a rename, whole or not at all.

    ``limit_bytes``: of all files; None: half of what the disk has for it. ``connections``: requests at once; with one
    no thread is started. Several agents may share the folder.
    """

    def __init__(
        self,
        root: Path,
        blobs: BlobStore,
        *,
        limit_bytes: int | None = None,
        spare_bytes: int = SPARE_BYTES,
        connections: int = CONNECTIONS,
    ) -> None:
        self._shelf = Shelf(root, limit_bytes, spare_bytes=spare_bytes)
        self._blobs = blobs
        self._connections = connections
        self.fetched_bytes = 0
        """Of files of datasets, since this object was made."""

    def fetch(self, key: str, sha256: str, go_on: GoOn = always) -> Path:
        """Return the file with that digest, downloaded from ``key`` unless it is here.

        It is read again at each use: a script could have written to it through its link. ``go_on`` is asked between
        pieces; what it raises ends the call, and a later one goes on from there.

        Raises:
            DigestMismatch: the store's bytes have another digest.
            MissingFile: the store has no such key.
            EnvironmentProblem: the folder cannot be written, or its disk is full.
        """
        path = self._shelf.path(sha256)
        if not self._is_right(path, sha256, go_on):
            with _named_troubles(self._shelf.root):
                for _ in download([self._wanted(key, sha256)], self._blobs, connections=1, go_on=go_on):
                    pass
        self._touch(path)
        return path

    def place(self, key: str, sha256: str, target: Path) -> None:
        """Put the file at ``target``: as a link where the file system can, as a copy where not."""
        for _ in range(TRIES):
            with contextlib.suppress(FileNotFoundError):  # removed by another agent a moment ago
                _link(self.fetch(key, sha256), target)
                return
        raise EnvironmentProblem(
            f"{self._shelf.root} loses files as fast as they are fetched: raise its limit"
        )

    def place_all(self, files: Sequence[CachedFile]) -> int:
        """Put every file at its target; return the bytes that were fetched. As ``stream``, waited for."""
        missing = self._missing(files, always)
        for _ in self._placed(files, missing, self._all_wanted(missing), always):
            pass
        return sum(file.size_bytes for file in missing)

    def stream(self, files: Sequence[CachedFile], go_on: GoOn = always) -> Generator[Path]:
        """Put files at their targets, and yield each as soon as it is there; those after it are fetched meanwhile.

        Room is made before the first byte is fetched. The same call goes on after a failure. ``go_on`` is asked
        between the pieces of files, from any thread, also while those that are here are read again.

        Raises:
            DigestMismatch, MissingFile, Unavailable: as ``fetch``.
            EnvironmentProblem: too little room, said before anything is fetched; or the folder cannot be written.
        """
        missing = self._missing(files, go_on)
        yield from self._placed(files, missing, self._all_wanted(missing), go_on)

    def hand_out(self, files: Sequence[CachedFile], go_on: GoOn = always) -> Generator[Path]:
        """As ``stream``, but what is here is read again only when its turn comes: for who uses the first file long
        before he needs the last."""
        distinct = _distinct(files)
        wanted = self._all_wanted(distinct, read_again=True)
        yield from self._placed(files, self._absent(distinct), wanted, go_on)

    def make_room(self, files: Sequence[CachedFile]) -> None:
        """Make the room that ``hand_out`` will need.

        Raises:
            EnvironmentProblem: there is too little; or the folder cannot be written.
        """
        self._make_room(files, self._absent(_distinct(files)))

    def _absent(self, distinct: Sequence[CachedFile]) -> list[CachedFile]:
        return [file for file in distinct if not self._shelf.path(file.sha256).exists()]

    def _missing(self, files: Sequence[CachedFile], go_on: GoOn) -> list[CachedFile]:
        """Return what is to be fetched, each digest once."""
        distinct = _distinct(files)

        def check(file: CachedFile) -> bool:
            return self._is_right(self._shelf.path(file.sha256), file.sha256, go_on)

        if self._connections == 1 or sum(file.size_bytes for file in distinct) < SMALL_BYTES:
            here = [check(file) for file in distinct]
        else:
            with ThreadPoolExecutor(HASHERS) as pool:
                here = list(pool.map(check, distinct))
        return [file for file, there in zip(distinct, here, strict=True) if not there]

    def _placed(
        self,
        files: Sequence[CachedFile],
        missing: Sequence[CachedFile],
        wanted: Sequence[Wanted],
        go_on: GoOn,
    ) -> Iterator[Path]:
        self._make_room(files, missing)
        coming = {entry.sha256 for entry in wanted}
        sizes = {file.sha256: file.size_bytes for file in missing}
        with (
            _named_troubles(self._shelf.root),
            contextlib.closing(
                download(wanted, self._blobs, connections=self._connections, go_on=go_on)
            ) as arrivals,
        ):
            for file in files:
                while file.sha256 in coming:
                    arrived = next(arrivals).sha256
                    coming.discard(arrived)
                    self.fetched_bytes += sizes.get(arrived, 0)
                self._put(file)
                yield file.target
        # Not one by one: while others download, each call of the system waits for the interpreter's lock.
        for file in files:
            self._touch(self._shelf.path(file.sha256))

    def _all_wanted(self, files: Sequence[CachedFile], *, read_again: bool = False) -> list[Wanted]:
        wanted = [self._wanted(file.key, file.sha256, file.size_bytes) for file in files]
        return [replace(one, read_again=read_again) for one in wanted]

    def _wanted(self, key: str, sha256: str, size_bytes: int | None = None) -> Wanted:
        return Wanted(key, sha256, self._shelf.path(sha256), size_bytes, self._shelf.partials)

    def _put(self, file: CachedFile) -> None:
        """Link a file that is known to be right; another agent may have removed it since."""
        try:
            _link(self._shelf.path(file.sha256), file.target)
        except FileNotFoundError:
            self.place(file.key, file.sha256, file.target)

    def _make_room(self, files: Sequence[CachedFile], missing: Sequence[CachedFile]) -> None:
        if not missing:
            return
        root = self._shelf.root
        with _named_troubles(root):
            root.mkdir(parents=True, exist_ok=True)
            keep = {path for f in files for path in (self._shelf.path(f.sha256), self._shelf.part(f.sha256))}
            partial_bytes = sum(self._partial_bytes(file) for file in missing)
            need = sum(file.size_bytes for file in missing) - partial_bytes
            self._shelf.make_room(max(need, 0), frozenset(keep))

    def _partial_bytes(self, file: CachedFile) -> int:
        with contextlib.suppress(FileNotFoundError):
            return self._shelf.part(file.sha256).stat().st_blocks * 512
        return 0

    def _is_right(self, path: Path, sha256: str, go_on: GoOn) -> bool:
        """Whether the file is here and whole; one that was written to is removed."""
        try:
            if file_digest(path, go_on) == sha256:
                return True
        except FileNotFoundError:
            return False
        except OSError as error:
            raise EnvironmentProblem(f"{path} cannot be read: {error.strerror}") from error
        with _named_troubles(self._shelf.root):
            path.unlink(missing_ok=True)
        return False

    def _touch(self, path: Path) -> None:
        """A cache that cannot be written still serves what is in it."""
        with contextlib.suppress(OSError):
            self._shelf.touch(path)


def _distinct(files: Sequence[CachedFile]) -> list[CachedFile]:
    """Return each digest's file once."""
    return list({file.sha256: file for file in files}.values())


def _link(source: Path, target: Path) -> None:
    """Raises FileNotFoundError when there is no source."""
    try:
        os.link(source, target)
    except (FileNotFoundError, FileExistsError):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        _link_or_copy(source, target)
    except OSError:
        _link_or_copy(source, target)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:  # another file system, one without hard links, or too many of them
        shutil.copyfile(source, target)


@contextlib.contextmanager
def _named_troubles(root: Path) -> Iterator[None]:
    """Say of a full or closed disk what is lacking; every other trouble stays what it is."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            free = format_bytes(shutil.disk_usage(root).free)
            raise EnvironmentProblem(f"the disk of {root} is full ({free} free): free some of it") from error
        if error.errno in CLOSED:
            raise EnvironmentProblem(
                f"the cache {root} cannot be written ({error.strerror}): make it writable for the agent's user, or "
                "give the agent another folder"
            ) from error
        raise
