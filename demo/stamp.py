"""Whether something that `sam build` reads has changed since it last ran."""

from __future__ import annotations

import hashlib
from pathlib import Path

from demo.system import ROOT

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


def changed_since(mark: Path) -> bool:
    """Return whether the build that ``mark`` records is out of date."""
    return not mark.is_file() or mark.read_text() != digest()


def stamp(mark: Path) -> None:
    """Record that what stands here is built."""
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.write_text(digest())
