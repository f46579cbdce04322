"""A dataset's data policy: set by an administrator, never by an uploader's manifest."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Literal

import msgspec


class DataPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``zones``: where raw data may lie (patterns such as ``onprem-*``). ``may_leave``: what of it
    may go elsewhere; each value includes those before it."""

    schema: Literal["isthmus/policy/1"] = "isthmus/policy/1"
    zones: tuple[str, ...] = ("*",)
    may_leave: Literal["nothing", "results", "activations", "everything"] = "results"

    def allows_zone(self, zone: str) -> bool:
        """Whether raw data may lie in ``zone``."""
        return any(fnmatchcase(zone, pattern) for pattern in self.zones)
