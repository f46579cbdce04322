"""``Events`` and ``Executions`` in memory."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any


class MemoryEvents:
    """Keeps what was published."""

    def __init__(self) -> None:
        self.published: list[tuple[str, dict[str, Any]]] = []

    def publish(self, kind: str, detail: Mapping[str, Any]) -> None:
        self.published.append((kind, json.loads(json.dumps(detail))))


class MemoryExecutions:
    """Executions by machine and name; a name is never used twice."""

    def __init__(self) -> None:
        self.started: dict[tuple[str, str], dict[str, Any]] = {}
        self._lock = threading.Lock()

    def start(self, machine: str, name: str, payload: Mapping[str, Any]) -> bool:
        with self._lock:
            if (machine, name) in self.started:
                return False
            self.started[machine, name] = json.loads(json.dumps(payload))
            return True
