"""What a machine of one's own costs: what its owner says of it, ``[cost]`` of ``rig.toml``."""

from __future__ import annotations

from typing import Annotated

import msgspec

Amount = Annotated[float, msgspec.Meta(ge=0)]


class OwnCost(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``utilisation``: the share of its life, in (0, 1], in which it computes. ``life_years``: over which its price is
    spread. ``watts``: what it draws while it computes, all of it; not given: what was measured or, where nothing is,
    the descriptor's ``power_watts``, which is what it draws above idle, and ``idle_watts``. ``upkeep_usd_per_year``:
    room, insurance, repairs.
    """

    purchase_usd: Amount
    life_years: Annotated[float, msgspec.Meta(gt=0)]
    utilisation: Annotated[float, msgspec.Meta(gt=0, le=1)]
    tariff_usd_per_kwh: Amount
    watts: Amount | None = None
    idle_watts: Amount = 0.0
    upkeep_usd_per_year: Amount = 0.0
