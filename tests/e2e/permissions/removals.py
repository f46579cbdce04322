"""When a test took a permission away on purpose: the refusals of that time are no finding."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from demo.system import System


def file(system: System) -> Path:
    """Return where removals are noted, one JSON object a line; ``iam.replay`` of the local cloud reads it."""
    path = system.folder / "removed-permissions.jsonl"
    path.touch()
    return path


def begin(system: System, identity: str, *actions: str) -> Callable[[], None]:
    """Note that the identity lacks the actions from now on; return what notes that it has them back."""
    since = time.time()

    def end() -> None:
        removal = {"identity": identity, "actions": actions, "since": since, "until": time.time()}
        with file(system).open("a") as out:
            out.write(json.dumps(removal) + "\n")

    return end
