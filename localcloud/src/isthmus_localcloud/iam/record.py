"""Every decision as one JSON line in ``logs/iam.jsonl``: written in batches, and never without end."""

import atexit
import json
import threading
import time
from pathlib import Path
from typing import Any

from .calls import Check
from .policies import Decision

FLUSH_SECONDS = 0.2
MAX_BYTES = 64 * 1024 * 1024


class Recorder:
    """Lines go to memory; a thread writes them. At ``max_bytes`` the file becomes ``….1`` and a new one
    begins, so that the newest are always there."""

    def __init__(self, file: Path, max_bytes: int = MAX_BYTES) -> None:
        self._file, self._max_bytes = file, max_bytes
        self._lines: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._run, name="iam-record", daemon=True).start()
        atexit.register(self.flush)

    def _run(self) -> None:
        while not self._ended.wait(FLUSH_SECONDS):
            self.flush()

    def add(self, who: dict[str, str], check: Check, decision: Decision, operation: str) -> None:
        """``who``: ``kind``, ``identity`` and ``arn``. ``operation``: the call that took the permission."""
        line = {
            "time": time.time(),
            **who,
            "action": check.action,
            "resource": check.resource,
            "keys": dict(check.keys),
            "decision": decision.value,
            "operation": operation,
            "implied": check.implied,
        }
        with self._lock:
            self._lines.append(line)

    def flush(self) -> None:
        with self._lock:
            lines, self._lines = self._lines, []
        if not lines:
            return
        if self._file.exists() and self._file.stat().st_size > self._max_bytes:
            self._file.replace(self._file.with_name(self._file.name + ".1"))
        with self._file.open("a") as out:
            out.writelines(json.dumps(line) + "\n" for line in lines)
