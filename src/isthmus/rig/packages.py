"""What a job brings of its own: the ``requirements.txt`` of its code, as SageMaker's containers honour it.

An environment is its lock (docs/adr/0028), so each line is a version with its digests, and nothing contradicts the
environment's own lock. Format: pip's requirements file, in hash-checking mode
(https://pip.pypa.io/en/stable/topics/secure-installs).
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from isthmus.errors import InvalidJob
from isthmus.model.units import MIB, format_bytes
from isthmus.rig.definitions import Definition

FILE = "requirements.txt"
MAX_BYTES = MIB
LINE = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(\[[^\]]*\])?==(?P<version>[^\s;]+)(\s*;[^#]*?)?"
    r"(\s+--hash=sha256:[0-9a-f]{64})+"
)
HOW = "write it with `uv pip compile --generate-hashes`"
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
    if len(raw) > MAX_BYTES:
        raise InvalidJob(f"{FILE} is larger than {format_bytes(MAX_BYTES)}")
    wanted: dict[str, set[str]] = {}
    for line in _lines(raw):
        if (found := LINE.fullmatch(line)) is None:
            raise InvalidJob(
                f"each line of {FILE} needs a version and its digests, as in name==1.0 --hash=sha256:…; one is "
                f"{line[:80]!r}: {HOW}"
            )
        wanted.setdefault(_normal(found["name"]), set()).add(found["version"])
    _check_lock(wanted, definition)
    return Packages(path, hashlib.sha256(raw).hexdigest())


def _check_lock(wanted: dict[str, set[str]], definition: Definition) -> None:
    locked = tomllib.loads((definition.folder / "uv.lock").read_text(encoding="utf-8"))
    for package in locked.get("package", []):
        name, version = _normal(package["name"]), package.get("version", "")
        if name in wanted and version not in wanted[name]:
            raise InvalidJob(
                f"{FILE} needs {name} {', '.join(sorted(wanted[name]))}, and the environment of "
                f"{definition.framework} {definition.version} has {version}: {HOW}, and give it what is locked "
                "there with --constraint"
            )


def _lines(raw: bytes) -> list[str]:
    """Return the requirements: without comments, each on one line."""
    joined = re.sub(r"\\\r?\n", " ", raw.decode("utf-8", "replace"))
    return [line for text in joined.splitlines() if (line := re.sub(r"(^|\s)#.*$", "", text).strip())]


def _normal(name: str) -> str:
    """As packages are compared (PyPA specification "Names and normalization")."""
    return re.sub(r"[-_.]+", "-", name).lower()
