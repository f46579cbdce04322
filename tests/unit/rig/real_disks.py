"""A rig on disks that are really full and really read-only: file systems in memory, which this process alone sees.

Called by ``test_real_disks`` in a mount namespace of its own, with a folder. Prints one line of JSON: what was seen.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rig_world import LEAVES_A_MODEL, World
from test_offline import agent

from isthmus.adapters.local.blobs import DirectoryBlobStore
from isthmus.documents import sha256
from isthmus.errors import EnvironmentProblem
from isthmus.model.units import MIB
from isthmus.rig.agent import Agent
from isthmus.rig.cache import FileCache
from isthmus.rig.spool import Spool

ROOMY_BYTES = 96 * MIB
FILLS_THE_DISK = """
import os
with open(os.path.join(os.environ["SM_OUTPUT_DATA_DIR"], "large"), "wb") as file:
    while True:
        file.write(bytes(1_000_000))
"""


def mount(*words: str | Path) -> None:
    subprocess.run(["mount", *map(str, words)], check=True)


@contextlib.contextmanager
def disk(folder: Path, size_bytes: int) -> Iterator[Path]:
    """A file system of so many bytes."""
    folder.mkdir(parents=True)
    mount("-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", folder)
    yield folder
    # Whatever still lies open in it goes with this process.
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path, *, but_bytes: int = 0) -> Path:
    """Take all the room that there is, but for some."""
    filler = folder / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(
            file.fileno(), 0, os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize - but_bytes
        )
    return filler


def refusal(cache: FileCache, key: str, data: bytes, target: Path) -> str:
    """What the cache says; empty when the file is there."""
    try:
        cache.place(key, sha256(data), target)
    except EnvironmentProblem as error:
        return str(error)
    assert target.read_bytes() == data
    return ""


def a_cache(folder: Path) -> dict[str, Any]:
    """What is in it is served from a disk that is closed; what is not says which disk, and that it is full."""
    blobs, seen = DirectoryBlobStore(folder / "bucket"), {}
    small, large, targets = b"one", os.urandom(3 * MIB), folder / "targets"
    targets.mkdir(parents=True)
    for key, data in (("small", small), ("other", b"two"), ("large", large)):
        blobs.put(key, data)
    with disk(folder / "cache", 2 * MIB) as root:
        cache = FileCache(root, blobs)
        seen["room"] = refusal(cache, "small", small, targets / "a")
        seen["full"] = refusal(cache, "large", large, targets / "b")
        seen["served from a full disk"] = refusal(cache, "small", small, targets / "c")
    with disk(folder / "closed", 2 * MIB) as root:
        cache = FileCache(root, blobs)
        seen["room again"] = refusal(cache, "small", small, targets / "c")
        mount("-o", "remount,bind,ro", root)
        seen["served from a closed disk"] = refusal(cache, "small", small, targets / "d")
        seen["closed"] = refusal(cache, "other", b"two", targets / "e")
        mount("-o", "remount,bind,rw", root)
        seen["open again"] = refusal(cache, "other", b"two", targets / "e")
    return seen


def a_world(folder: Path, script: str) -> World:
    """A job waits; the rig's own folder is on the disk, its cache, which leaves a GiB of its disk free, is not."""
    world = World(folder)
    world.settings = dataclasses.replace(world.settings, cache_folder=folder / "cache")
    world.put_job({"train.py": script})
    world.send(1)
    return world


def step(rig: Agent, world: World) -> dict[str, Any]:
    """Let the agent do what it can; return what came of it, and what it said was in its way."""
    before = len(world.events)
    outcome = rig.step()
    said = [fields["error"] for event, fields in world.events[before:] if event == "no work"]
    return {
        "state": outcome.state.value if outcome else "",
        "cause": outcome.cause if outcome else "",
        "said": said,
    }


def an_agent(folder: Path) -> dict[str, Any]:
    """It takes nothing while its disk is full or closed, says so, and works as soon as somebody mended it."""
    seen: dict[str, Any] = {}
    with disk(folder / "rig", ROOMY_BYTES) as root:
        world = a_world(folder, LEAVES_A_MODEL)
        # A disk on which a file is open for writing cannot be closed: the agent starts when it is.
        mount("-o", "remount,bind,ro", root)
        try:
            seen["closed"] = step(agent(world, lambda request, stop: 0)[0], world)
        except EnvironmentProblem as error:
            seen["closed"] = {"state": "", "said": [str(error)]}
        mount("-o", "remount,bind,rw", root)
        filler = fill(root, but_bytes=MIB)
        rig, stage = agent(world, lambda request, stop: 0)
        seen["full"] = step(rig, world)
        seen["trained meanwhile"] = len(stage.names)
        filler.unlink()
        seen["mended"] = step(rig, world)
    return seen


def a_training(folder: Path) -> dict[str, Any]:
    """A script takes all the room that there is: its attempt ends, and the next one has room."""
    with disk(folder / "rig", ROOMY_BYTES):
        world = a_world(folder, FILLS_THE_DISK)
        rig = Agent(world.settings, world.services, world.runner(), world.report)
        seen = {"filled": step(rig, world)}
        seen["answer"] = world.tasks.answers.get("train-1", [""])[0]
        seen["left"] = [entry.job_key for entry in Spool(world.settings.folder).entries()]
        world.put_job({"train.py": LEAVES_A_MODEL})
        world.send(2)
        seen["next"] = step(rig, world)
    return seen


def main(folder: Path) -> None:
    mount("--make-rprivate", "/")
    print(
        json.dumps({play.__name__: play(folder / play.__name__) for play in (a_cache, an_agent, a_training)})
    )


main(Path(sys.argv[1]))
