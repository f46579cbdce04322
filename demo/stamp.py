"""One build for all: `sam build` runs when something that it reads has changed, and once at a time."""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STAMP = ROOT / ".aws-sam/build/isthmus.stamp"
LOCK = ROOT / ".aws-sam/isthmus.lock"

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


def build_once(build: Callable[[int], object], *, stamp: Path = STAMP, lock: Path = LOCK) -> None:
    """Call ``build`` unless what stands there was built, to its end, from what is there now.

    ``build`` is given the lock's file descriptor, to pass on to the program that builds: whoever holds it
    last frees it, so a build that outlives us, killed, is waited for and not built into. The stamp is the
    commit point: gone before the first file changes, back after the last.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        # Taken before: what changes during a build may not be in it.
        wanted = digest()
        if stamp.is_file() and stamp.read_text() == wanted:
            return
        stamp.unlink(missing_ok=True)
        build(held.fileno())
        stamp.write_text(wanted)
