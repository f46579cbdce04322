"""A disk that loses power: what was written and not synced is there, or not, or in part, in any order.

``Recorder`` notes what a program does to a folder: names made, moved and removed, bytes, and what was synced. ``Disk``
does the same again in memory and, stopped at any step, makes a folder of what may lie there after a loss of power.

What may: POSIX promises a file's bytes after ``fsync`` of the file, and a folder's names after ``fsync`` of the folder;
of all else any part, in any order (Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014, measured what
file systems do with that). A rename is there or not, never half. That is more than ext4 or XFS lose.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Literal

Verb = Literal["mkdir", "create", "write", "link", "move", "remove", "sync"]
Change = list[tuple[str, "Folder | File | Link | None"]]
Keeping = Literal["nothing", "everything", "some", "the first"]
KEEPING: tuple[Keeping, ...] = ("nothing", "everything", "some", "the first")


@dataclass(frozen=True)
class Step:
    """One touch of the disk; ``path`` is relative to the recorded folder."""

    verb: Verb
    path: str
    other: str = ""
    data: bytes = b""


class Recorder:
    """Notes what this process does below a folder, while it is told to. ``deaf_to``: syncs that the disk acknowledges
    and does not do: of ``files``, of ``folders``."""

    _hooked: list[Recorder] = []

    def __init__(self, root: Path, deaf_to: str = "") -> None:
        self.steps: list[Step] = []
        self._root, self._deaf_to = str(root.resolve()), deaf_to
        self._open: dict[str, bytes] = {}

    def record(self, action: Callable[[], object]) -> list[Step]:
        """Return the steps of an action; a ``PowerLost`` that it raises ends them."""
        if not Recorder._hooked:
            sys.addaudithook(_hear)
        real = os.fsync

        def fsync(descriptor: int) -> None:
            self.synced(os.readlink(f"/proc/self/fd/{descriptor}"), real, descriptor)

        Recorder._hooked[:], os.fsync = [self], fsync  # type: ignore[assignment]
        try:
            action()
        except PowerLost:
            pass
        finally:
            Recorder._hooked[:], os.fsync = [NOBODY], real
        self._look()
        return self.steps

    def synced(self, path: str, real: Callable[[int], None], descriptor: int) -> None:
        """Note a sync, and do it."""
        self._look()
        real(descriptor)
        kind = "folders" if os.path.isdir(path) else "files"
        if (inside := self._inside(path)) is not None and kind != self._deaf_to:
            self.steps.append(Step("sync", inside))

    def heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Note what Python is about to do, if it will succeed."""
        if event == "open":
            self._opening(arguments)
        elif event in _EVENTS:
            self._look()
            paths = [_absolute(name, folder) for name, folder in _EVENTS[event](arguments)]
            inside = [self._inside(path) for path in paths]
            if None not in inside and _will(event, paths):
                self._note(event, [path or "" for path in inside], arguments)

    def _note(self, event: str, inside: list[str], arguments: tuple[Any, ...]) -> None:
        verbs: dict[str, Verb] = {"os.mkdir": "mkdir", "os.symlink": "link", "os.rename": "move"}
        other = (
            inside[1] if event == "os.rename" else os.fspath(arguments[0]) if event == "os.symlink" else ""
        )
        self.steps.append(Step(verbs.get(event, "remove"), inside[0], other))
        if event == "os.rename":
            self._open = {
                inside[1] + path.removeprefix(inside[0])
                if path == inside[0] or path.startswith(inside[0] + "/")
                else path: data
                for path, data in self._open.items()
            }

    def _opening(self, arguments: tuple[Any, ...]) -> None:
        path, _, flags = arguments
        if isinstance(path, int) or not flags & (os.O_WRONLY | os.O_RDWR):
            return
        inside = self._inside(_absolute(path, -1))
        if inside is None:
            return
        self._look()
        if not os.path.lexists(path):
            self.steps.append(Step("create", inside))
        elif flags & os.O_TRUNC:
            self.steps.append(Step("write", inside))
        self._open[inside] = b""

    def _look(self) -> None:
        """Note what was written to files since they were opened; nothing tells when."""
        for inside, before in list(self._open.items()):
            try:
                data = Path(self._root, inside).read_bytes()
            except FileNotFoundError:
                del self._open[inside]
                continue
            if data != before:
                self._open[inside] = data
                self.steps.append(Step("write", inside, data=data))

    def _inside(self, path: str) -> str | None:
        folder, name = os.path.split(path)
        path = os.path.join(os.path.realpath(folder), name)
        if path == self._root:
            return ""
        return path[len(self._root) + 1 :] if path.startswith(self._root + "/") else None


class PowerLost(BaseException):
    """What ends a program in the middle: nothing that it would still do counts."""


class _Nobody:
    def heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Hear nothing."""


NOBODY: Any = _Nobody()


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    hearing = Recorder._hooked[0]
    if hearing is not NOBODY:
        # What is read to take notes is no step.
        Recorder._hooked[:] = [NOBODY]
        try:
            hearing.heard(event, arguments)
        finally:
            Recorder._hooked[:] = [hearing]


_EVENTS: dict[str, Callable[[tuple[Any, ...]], list[tuple[Any, int]]]] = {
    "os.mkdir": lambda told: [(told[0], told[2])],
    "os.rename": lambda told: [(told[0], told[2]), (told[1], told[3])],
    "os.remove": lambda told: [(told[0], told[1])],
    "os.rmdir": lambda told: [(told[0], told[1])],
    "os.symlink": lambda told: [(told[1], told[2])],
}
"""Audit events (docs.python.org, "Audit events table"): which path, below which folder's descriptor."""


def _absolute(path: Any, folder: int) -> str:
    base = os.readlink(f"/proc/self/fd/{folder}") if folder >= 0 else os.getcwd()
    return os.path.join(base, os.fsdecode(path))


def _will(event: str, paths: list[str]) -> bool:
    if event in ("os.rename", "os.remove", "os.rmdir"):
        return os.path.lexists(paths[0])
    return not os.path.lexists(paths[0]) and os.path.isdir(os.path.dirname(paths[0]))


@dataclass
class File:
    """``kept``: what was synced last; None before the first time."""

    now: bytes = b""
    kept: bytes | None = None


@dataclass
class Link:
    """A symbolic link."""

    target: str


@dataclass
class Folder:
    """``kept``: names that were synced; ``since``: what was changed since, in order, each change whole."""

    kept: dict[str, Folder | File | Link] = field(default_factory=dict)
    since: list[Change] = field(default_factory=list)

    def names(self, changes: list[Change] | None = None) -> dict[str, Folder | File | Link]:
        """Return the names after these changes; of None, after all."""
        found = dict(self.kept)
        for change in self.since if changes is None else changes:
            for name, node in change:
                if node is None:
                    found.pop(name, None)
                else:
                    found[name] = node
        return found


class Disk:
    """A folder's content with what was synced of it."""

    def __init__(self, folder: Path) -> None:
        self._root = _read(folder)

    def do(self, step: Step) -> None:
        """Take one step."""
        folder, name = self._place(step.path)
        node = folder.names().get(name) if name else folder
        if step.verb == "mkdir":
            folder.since.append([(name, Folder())])
        elif step.verb == "create":
            folder.since.append([(name, File())])
        elif step.verb == "link":
            folder.since.append([(name, Link(step.other))])
        elif step.verb == "remove":
            folder.since.append([(name, None)])
        elif step.verb == "move":
            self._move(folder, name, step.other)
        elif step.verb == "write" and isinstance(node, File):
            node.now = step.data
        elif step.verb == "sync" and isinstance(node, File):
            node.kept = node.now
        elif step.verb == "sync" and isinstance(node, Folder):
            node.kept, node.since = node.names(), []

    def _move(self, folder: Folder, name: str, other: str) -> None:
        node, (into, new) = folder.names()[name], self._place(other)
        if into is folder:
            folder.since.append([(name, None), (new, node)])
        else:
            into.since.append([(new, node)])
            folder.since.append([(name, None)])

    def _place(self, path: str) -> tuple[Folder, str]:
        *above, name = path.split("/")
        folder = self._root
        for part in above:
            found = folder.names()[part]
            if not isinstance(found, Folder):
                raise NotADirectoryError(path)
            folder = found
        return folder, name

    def lose_power(self, into: Path, keeping: Keeping, random: Random) -> None:
        """Write what may be left into a new folder."""
        _write(self._root, into, keeping, random)


def _read(path: Path) -> Folder:
    folder = Folder()
    for entry in os.scandir(path):
        mode = entry.stat(follow_symlinks=False).st_mode
        if stat.S_ISLNK(mode):
            folder.kept[entry.name] = Link(os.readlink(entry.path))
        elif stat.S_ISDIR(mode):
            folder.kept[entry.name] = _read(Path(entry.path))
        else:
            data = Path(entry.path).read_bytes()
            folder.kept[entry.name] = File(data, data)
    return folder


def _write(node: Folder | File | Link, path: Path, keeping: Keeping, random: Random) -> None:
    if isinstance(node, Link):
        path.symlink_to(node.target)
    elif isinstance(node, File):
        path.write_bytes(_left(node, keeping, random))
    else:
        path.mkdir()
        changes = node.since
        if keeping == "nothing":
            changes = []
        elif keeping == "some":
            changes = [change for change in changes if random.random() < 0.5]
        elif keeping == "the first":
            changes = changes[: random.randint(0, len(changes))]
        for name, child in node.names(changes).items():
            _write(child, path / name, keeping, random)


def _left(file: File, keeping: Keeping, random: Random) -> bytes:
    """Return a file's bytes after the power was lost: as synced, as written, or something between."""
    before = file.kept or b""
    if keeping == "everything" or file.now == file.kept:
        return file.now
    if keeping == "nothing":
        return before
    part = random.randint(0, len(file.now))
    return random.choice([before, b"", file.now, file.now[:part], bytes(len(file.now))])
