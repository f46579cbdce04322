"""A dataset's data policy: set by an administrator, never by an uploader's manifest."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Annotated, Literal

import msgspec


class DataPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``zones``: where raw data may lie (patterns such as ``onprem-*``). ``may_leave``: what of it
    may go elsewhere; each value includes those before it. ``max_leakage_r2``: of activations, only those
    from which a decoder rebuilds held-out inputs with an R² below this (docs/adr/0021); None: any.
    """

    schema: Literal["isthmus/policy/1"] = "isthmus/policy/1"
    zones: tuple[str, ...] = ("*",)
    may_leave: Literal["nothing", "results", "activations", "everything"] = "results"
    max_leakage_r2: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None

    def allows_zone(self, zone: str) -> bool:
        """Whether raw data may lie in ``zone``."""
        return any(fnmatchcase(zone, pattern) for pattern in self.zones)

    def lets_models_lie_in(self, zone: str) -> bool:
        """Whether what a training results in (a model, its metrics) may lie in ``zone``."""
        return self.allows_zone(zone) or self.may_leave != "nothing"

    def lets_checkpoints_lie_in(self, zone: str) -> bool:
        """Whether a training's checkpoints may lie in ``zone``. They are whatever its script wrote, so where
        raw data may not lie, they may only if everything may leave."""
        return self.allows_zone(zone) or self.may_leave == "everything"
