"""A copy of what the checks read, faults planted in it, and the commands that `make check` runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
COPIED = (
    "template.yaml",
    ".cfnlintrc",
    ".pre-commit-config.yaml",
    "Makefile",
    "pyproject.toml",
    "samconfig.toml",
)
LINKED = (".venv", ".tools", "checks")


def copy_tree(folder: Path) -> Path:
    """Copy what a check judges; link what judges it."""
    for name in COPIED:
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / "statemachines", folder / "statemachines")
    shutil.copytree(ROOT / "layers", folder / "layers")
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "uv.lock", folder / "uv.lock")
    for name in LINKED:
        (folder / name).symlink_to(ROOT / name)
    return folder


@cache
def commands_of_make_check() -> list[str]:
    listed = subprocess.run(["make", "-n", "check"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [line for line in listed.stdout.splitlines() if line.strip()]


def command(mark: str) -> str:
    """Return the one command of `make check` that holds ``mark``."""
    found = [line for line in commands_of_make_check() if mark in line]
    assert len(found) == 1, f"{len(found)} commands of `make check` hold {mark!r}"
    return found[0]


def run(mark: str, folder: Path) -> tuple[int, str]:
    """Run that command on a copy; return its exit status and everything it printed."""
    own = {
        "PYTHONPATH": str(folder / "src"),
        "SAM_CLI_TELEMETRY": "0",
        "__SAM_CLI_APP_DIR": str(folder / "sam"),
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command(mark)],
        cwd=folder,
        env={**os.environ, **own},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Plant something in a JSON document."""
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


def insert(path: Path, before: str, text: str) -> None:
    whole = path.read_text()
    assert before in whole, f"{path.name} has no {before!r}"
    path.write_text(whole.replace(before, text + before, 1))
