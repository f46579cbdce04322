"""What a job brings of its own: the ``requirements.txt`` of its code, as SageMaker's containers honour it.

An environment is its lock (docs/adr/0028), so each line is a version with its digests, and nothing contradicts the
environment's own lock. The lines themselves: ``planning/requirements.py``.
"""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass
from pathlib import Path

from isthmus.errors import InvalidJob
from isthmus.planning.requirements import FILE, HOW, normal, versions_of
from isthmus.rig.definitions import Definition

__all__ = ["FILE", "JOBS_FAULTS", "Packages", "read"]

JOBS_FAULTS = ("No solution found", "Hash mismatch", "has no usable wheels")
"""How uv says that the file cannot be fulfilled, on this rig or another."""


@dataclass(frozen=True)
class Packages:
    """A job's own packages, on top of an environment."""

    path: Path
    sha256: str

    def digest(self, definition: Definition) -> str:
        """Return the SHA-256 (hex) of what decides the content of both together."""
        return hashlib.sha256(f"{definition.digest()}:{self.sha256}".encode()).hexdigest()

    def command(self, uv: str, interpreter: Path) -> list[str]:
        """Return what installs them: wheels alone, so that no code of theirs runs; dependencies are in the file."""
        options = ["--require-hashes", "--no-deps", "--only-binary", ":all:"]
        return [
            uv,
            "pip",
            "install",
            "--python",
            str(interpreter),
            *options,
            "--requirements",
            str(self.path),
        ]


def read(path: Path, definition: Definition) -> Packages:
    """Read a job's ``requirements.txt``; nothing is fetched.

    Raises:
        InvalidJob: a line has no digest, or another version than the environment's lock.
    """
    raw = path.read_bytes()
    _check_lock(versions_of(raw), definition)
    return Packages(path, hashlib.sha256(raw).hexdigest())


def _check_lock(wanted: dict[str, set[str]], definition: Definition) -> None:
    locked = tomllib.loads((definition.folder / "uv.lock").read_text(encoding="utf-8"))
    for package in locked.get("package", []):
        name, version = normal(package["name"]), package.get("version", "")
        if name in wanted and version not in wanted[name]:
            raise InvalidJob(
                f"{FILE} needs {name} {', '.join(sorted(wanted[name]))}, and the environment of "
                f"{definition.framework} {definition.version} has {version}: {HOW}, and give it what is locked "
                "there with --constraint"
            )
