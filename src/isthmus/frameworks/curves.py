"""The metrics of a training as they went, in little room however long it takes; plain Python, for it runs anywhere."""

from __future__ import annotations

from typing import Any

SCHEMA = "isthmus/curves/1"
POINTS = 500
"""Of each metric at most: as many as a wide terminal has columns, and some."""


class CurveRecorder:
    """Keeps every value of a metric until there are ``points``, then every second one, every fourth, and so on."""

    def __init__(self, points: int = POINTS) -> None:
        self._points = points
        self._lines: dict[str, _Line] = {}

    def add(self, name: str, seconds: float, value: float) -> None:
        """Take a value; ``seconds`` since the training started."""
        self._lines.setdefault(name, _Line()).add(round(seconds, 2), value, self._points)

    def document(self, points: int = POINTS) -> dict[str, Any]:
        """Return ``curves.json`` (``model.output.Curves``): of each metric about ``points`` at most, and the last."""
        return {"schema": SCHEMA, "curves": {name: line.curve(points) for name, line in self._lines.items()}}


class _Line:
    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.values: list[float] = []
        self.stride = 1
        self.count = 0
        self.last = (0.0, 0.0)

    def add(self, seconds: float, value: float, points: int) -> None:
        self.last = (seconds, value)
        if self.count % self.stride == 0:
            self.seconds.append(seconds)
            self.values.append(value)
        self.count += 1
        if len(self.values) > points:
            del self.seconds[1::2], self.values[1::2]
            self.stride *= 2

    def curve(self, points: int) -> dict[str, Any]:
        step = -(-len(self.values) // points)
        seconds, values = self.seconds[::step], self.values[::step]
        if (seconds[-1], values[-1]) != self.last:
            seconds, values = [*seconds, self.last[0]], [*values, self.last[1]]
        return {"seconds": seconds, "values": values, "stride": self.stride * step}
