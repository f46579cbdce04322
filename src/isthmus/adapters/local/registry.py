"""``Registry`` in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal


class MemoryRegistry:
    """Packages by model and release: source and metadata."""

    def __init__(self) -> None:
        self.packages: dict[tuple[str, int], tuple[str, dict[str, str]]] = {}
        self.judged: dict[str, tuple[str, str]] = {}
        """Package to its status and why."""

    def register(
        self, model: str, release: int, source: str, metadata: Mapping[str, str], *, approved: bool = True
    ) -> str:
        package = f"package/{model}/{release}"
        self.packages.setdefault((model, release), (source, dict(metadata)))
        self.judged.setdefault(package, ("Approved" if approved else "PendingManualApproval", ""))
        return package

    def judge(
        self,
        package: str,
        status: Literal["Approved", "Rejected", "PendingManualApproval"],
        description: str,
    ) -> None:
        self.judged[package] = (status, description)
