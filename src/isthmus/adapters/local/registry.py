"""``Registry`` in memory."""

from __future__ import annotations

from collections.abc import Mapping


class MemoryRegistry:
    """Packages by model and release: source and metadata."""

    def __init__(self) -> None:
        self.packages: dict[tuple[str, int], tuple[str, dict[str, str]]] = {}

    def register(self, model: str, release: int, source: str, metadata: Mapping[str, str]) -> str:
        self.packages.setdefault((model, release), (source, dict(metadata)))
        return f"package/{model}/{release}"
