"""Disks that are really full and really read-only: each a clear sentence, and nothing lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

# Root of the machine where we are that; otherwise root of a user namespace, who may mount what lies in memory.
NAMESPACES = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    tried = subprocess.run([*NAMESPACES, "true"], capture_output=True, text=True, check=False)
    assert tried.returncode == 0, (
        f"this test mounts file systems that it alone sees, and this machine forbids that ({tried.stderr.strip()}): "
        "allow unprivileged user namespaces, or run it as root"
    )
    script = Path(__file__).with_name("real_disks.py")
    command = [*NAMESPACES, sys.executable, script, tmp_path_factory.mktemp("disks")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_a_cache_serves_what_it_has_and_says_what_its_disk_lacks(seen: dict[str, Any]) -> None:
    cache = seen["a_cache"]
    assert "is full (0 B free): free some of it" in cache.pop("full")
    assert "cannot be written (Read-only file system): make it writable" in cache.pop("closed")
    assert set(cache.values()) == {""}, "all else was there"


def test_an_agent_takes_nothing_until_its_disk_is_mended(seen: dict[str, Any]) -> None:
    closed, full, mended = (seen["an_agent"][name] for name in ("closed", "full", "mended"))
    assert (closed["state"], full["state"], seen["an_agent"]["trained meanwhile"]) == ("", "", 0)
    assert "is on a disk that is mounted read-only: mount it for writing" in closed["said"][0]
    assert "free; an attempt needs at least 64.0 MiB: free some space" in full["said"][0]
    assert mended["state"] == "SUCCEEDED"


def test_a_script_that_fills_the_disk_ends_its_attempt_alone(seen: dict[str, Any]) -> None:
    filled = seen["a_training"]["filled"]
    assert filled["state"] == "LOST"
    assert "is on a disk that is full: free some of it" in filled["cause"]
    assert (seen["a_training"]["answer"], seen["a_training"]["left"]) == ("failed", [])
    assert seen["a_training"]["next"]["state"] == "SUCCEEDED"
