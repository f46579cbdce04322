"""What makes a demo that was killed start again: one build at a time, whole or not at all, and no agent left."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from demo.leftovers import end_agents
from demo.stamp import build_once

WAITS = "import sys, threading; print('up', flush=True); threading.Event().wait()"


class Builds:
    """Counts builds; dies in the middle of the one that it is told to."""

    def __init__(self, folder: Path, dies_in: int = 0) -> None:
        self.stamp, self.lock = folder / "build/isthmus.stamp", folder / "isthmus.lock"
        self.count, self._dies_in = 0, dies_in

    def once(self) -> None:
        build_once(self._build, stamp=self.stamp, lock=self.lock)

    def _build(self, lock: int) -> None:
        self.count += 1
        assert os.get_inheritable(lock) is False
        assert not self.stamp.exists()
        self.stamp.parent.mkdir(exist_ok=True)
        if self.count == self._dies_in:
            raise KeyboardInterrupt


def test_what_is_built_is_not_built_again(tmp_path: Path) -> None:
    builds = Builds(tmp_path)
    builds.once()
    builds.once()
    assert builds.count == 1


def test_a_build_that_was_killed_does_not_count_as_one(tmp_path: Path) -> None:
    builds = Builds(tmp_path, dies_in=2)
    builds.once()
    builds.stamp.write_text("of other sources")
    with pytest.raises(KeyboardInterrupt):
        builds.once()
    builds.once()
    builds.once()
    assert builds.count == 3


def test_a_build_that_outlives_its_demo_holds_the_lock(tmp_path: Path) -> None:
    builds, left = Builds(tmp_path), []

    def leave_one_running(lock: int) -> None:
        command = [sys.executable, "-c", WAITS]
        left.append(subprocess.Popen(command, stdout=subprocess.PIPE, pass_fds=(lock,)))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_once(leave_one_running, stamp=builds.stamp, lock=builds.lock)
    with builds.lock.open("ab") as lock, left[0] as process:
        with pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        process.kill()
    builds.once()
    assert builds.count == 1


def test_an_agent_that_was_left_is_ended_and_no_other(tmp_path: Path) -> None:
    def agent(folder: Path) -> subprocess.Popen[bytes]:
        words = ["rig", "run", "--name", "demo-rig", "--folder", str(folder), "--prepare"]
        return subprocess.Popen([sys.executable, "-c", WAITS, *words], stdout=subprocess.PIPE)

    with agent(tmp_path / "rig") as mine, agent(tmp_path / "rig-2") as other:
        for process in (mine, other):
            assert process.stdout is not None
            process.stdout.readline()
        assert end_agents(tmp_path / "rig") == 1
        assert mine.wait(20) == -9
        assert other.poll() is None
        assert end_agents(tmp_path / "rig") == 0
        other.kill()
