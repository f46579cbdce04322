"""Whether something that `sam build` reads has changed since it last ran."""

from __future__ import annotations

import hashlib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STAMP = ROOT / ".aws-sam/build/isthmus.stamp"

READ = ("src", "functions", "layers", "edge_lambda", "statemachines", "template.yaml", "samconfig.toml")


def digest() -> str:
    """Return one digest over names and contents of everything that is built."""
    total = hashlib.sha256()
    for name in READ:
        place = ROOT / name
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if path.is_file() and "__pycache__" not in path.parts:
                total.update(f"{path.relative_to(ROOT)}\0".encode())
                total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def changed_since_build() -> bool:
    """Return whether the build is out of date, or not there."""
    return not STAMP.is_file() or STAMP.read_text() != digest()


def stamp_build() -> None:
    """Record, in the build's own folder, that what stands here is built."""
    STAMP.write_text(digest())
