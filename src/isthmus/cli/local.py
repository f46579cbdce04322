"""``isthmus local …``: hands over to the local cloud, a project of its own in ``localcloud/``."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from isthmus.errors import EnvironmentProblem


def register(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command; ``main`` passes its arguments on before this parser would see them."""
    commands.add_parser("local", help="the whole system on this machine: up, down, status, logs, edge")


def run(arguments: list[str]) -> int:
    """Run the local cloud's own command line; return its exit status.

    Raises:
        EnvironmentProblem: the local cloud is not here, or not installed.
    """
    project = Path(os.environ.get("ISTHMUS_LOCALCLOUD", "localcloud"))
    python = project / ".venv" / "bin" / "python"
    if not (project / "pyproject.toml").is_file():
        raise EnvironmentProblem(
            f"there is no local cloud at {project}; run this in a clone of the repository, or name the "
            "folder in ISTHMUS_LOCALCLOUD"
        )
    if not python.is_file():
        raise EnvironmentProblem(f"{python} is missing: install the local cloud with `make localcloud`")
    sys.stdout.flush()
    return subprocess.run([str(python), "-m", "isthmus_localcloud", *arguments], check=False).returncode
