"""This machine, as ``isthmus doctor`` looks at it."""

from __future__ import annotations

import ctypes
import importlib.metadata
import shutil
import subprocess
import sys
from pathlib import Path

TIMEOUT_SECONDS = 60
"""``sam --version`` takes seconds on a cold disk."""


class ThisMachine:
    """``examine_account.Machine`` on the machine that this process runs on."""

    def python(self) -> tuple[int, int, int]:
        return sys.version_info[0], sys.version_info[1], sys.version_info[2]

    def package(self, name: str) -> str:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            return ""

    def command(self, name: str) -> str:
        # Beside the interpreter first: who runs from a virtual environment has not always entered it.
        beside = shutil.which(name, path=str(Path(sys.executable).parent))
        found = beside or shutil.which(name)
        if found is None:
            return ""
        try:
            done = subprocess.run(
                [found, "--version"], capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return ""
        lines = (done.stdout or done.stderr).splitlines()
        return lines[0].strip() if done.returncode == 0 and lines else ""

    def library(self, name: str) -> bool:
        try:
            ctypes.CDLL(name)
        except OSError:
            return False
        return True

    def disk_free_bytes(self) -> int:
        return shutil.disk_usage(Path.cwd()).free
