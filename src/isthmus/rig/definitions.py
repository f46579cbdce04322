"""The training environments that are defined here, and which of them a machine can have.

A definition (``environments/<framework>-<version>/{pyproject.toml,uv.lock}``) ships with this package. Its
lock pins every package by its digest; the lock's own digest names what is built from it.
"""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isthmus import documents
from isthmus.model.device import DeviceDescriptor
from isthmus.rig.fitness import Needs, unmet

DEFINITIONS = Path(__file__).parent / "environments"


@dataclass(frozen=True)
class Definition:
    """A framework's environment as it is defined here."""

    framework: str
    version: str
    folder: Path

    def digest(self) -> str:
        """Return the SHA-256 (hex) of what decides the environment's content."""
        parts = [(self.folder / name).read_bytes() for name in ("pyproject.toml", "uv.lock")]
        return hashlib.sha256(b"\0".join(parts)).hexdigest()

    def runs_on(self, python: tuple[int, int]) -> bool:
        """Whether the environment is made for this version of Python (``requires-python = "==3.13.*"``)."""
        return bool(self._read()["project"]["requires-python"] == f"=={python[0]}.{python[1]}.*")

    def needs(self) -> Needs:
        """Return what the environment needs of a machine (``[tool.isthmus.needs]``).

        Raises:
            InvalidDocument: it names something that nobody knows how to match.
        """
        stated = self._read().get("tool", {}).get("isthmus", {}).get("needs", {})
        return documents.convert(Needs, stated, f"what the environment {self.folder.name} needs")

    def _read(self) -> dict[str, Any]:
        return tomllib.loads((self.folder / "pyproject.toml").read_text(encoding="utf-8"))


def definitions(folder: Path = DEFINITIONS) -> list[Definition]:
    """Return the environments that can be built, by framework and version."""
    found = []
    for lock in sorted(folder.glob("*/uv.lock")):
        framework, _, version = lock.parent.name.rpartition("-")
        found.append(Definition(framework, version, lock.parent))
    return found


def frameworks(folder: Path = DEFINITIONS) -> dict[str, tuple[str, ...]]:
    """Return framework name to versions: of every environment that is defined."""
    return _versions(definitions(folder))


def matched(
    device: DeviceDescriptor, folder: Path = DEFINITIONS
) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    """Return the frameworks that a device can have, and of each other ``name version`` why it cannot."""
    fit, unfit = [], {}
    for entry in definitions(folder):
        if reason := unmet(entry.needs(), device):
            unfit[f"{entry.framework} {entry.version}"] = f"{entry.framework} {entry.version} {reason}"
        else:
            fit.append(entry)
    return _versions(fit), unfit


def _versions(entries: list[Definition]) -> dict[str, tuple[str, ...]]:
    versions: dict[str, tuple[str, ...]] = {}
    for entry in entries:
        versions[entry.framework] = (*versions.get(entry.framework, ()), entry.version)
    return versions
