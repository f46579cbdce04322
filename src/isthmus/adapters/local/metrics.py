"""``Metrics`` that are kept in memory."""

from __future__ import annotations

from collections.abc import Mapping


class MemoryMetrics:
    """What was sent, in the order in which it came: (values, dimensions)."""

    def __init__(self) -> None:
        self.sent: list[tuple[dict[str, float], dict[str, str]]] = []

    def send(self, values: Mapping[str, float], dimensions: Mapping[str, str]) -> None:
        self.sent.append((dict(values), dict(dimensions)))
