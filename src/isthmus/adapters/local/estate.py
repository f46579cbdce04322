"""``collect_versions.Estate`` in memory."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from isthmus.planning.collection import ComponentVersion, FunctionVersion, Holdings, LayerVersion
from isthmus.workflows.collect_versions import Storage


class MemoryEstate:
    """Holds what a test gives it; what is removed leaves it."""

    def __init__(self, models: Collection[str], held: Holdings, limit_bytes: int = 75 << 30) -> None:
        self._models, self.held, self._limit_bytes = set(models), held, limit_bytes
        self.removed: list[str] = []

    def models(self) -> set[str]:
        return set(self._models)

    def holdings(self, models: Collection[str]) -> Holdings:
        return self.held

    def storage(self) -> Storage:
        used = sum(entry.size_bytes for entry in self.held.functions)
        used += sum(entry.size_bytes for entry in self.held.layers)
        return Storage(used, self._limit_bytes)

    def remove_component(self, version: ComponentVersion) -> None:
        self._without("components", version, f"{version.component} {version.version}")

    def remove_function(self, version: FunctionVersion) -> None:
        self._without("functions", version, f"{version.function}:{version.number}")

    def remove_layer(self, version: LayerVersion) -> None:
        self._without("layers", version, f"{version.layer}:{version.number}")

    def _without(self, field: str, version: object, name: str) -> None:
        left = tuple(entry for entry in getattr(self.held, field) if entry != version)
        self.held = msgspec.structs.replace(self.held, **{field: left})
        self.removed.append(name)
