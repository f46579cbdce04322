"""What an hour of a machine of one's own costs."""

from __future__ import annotations

import msgspec

from isthmus.model.own_cost import OwnCost

HOURS_A_YEAR = 365 * 24


class RigRate(msgspec.Struct, frozen=True, kw_only=True):
    """In US dollars for an hour in which it computes, and what that is made of."""

    machine_usd: float
    energy_usd: float

    @property
    def usd(self) -> float:
        """The whole."""
        return self.machine_usd + self.energy_usd


def rig_rate(cost: OwnCost, *, power_watts: float = 0.0, measured_watts: float = 0.0) -> RigRate:
    """Return the rate of an hour of use. The watts are stated, else measured, else ``power_watts`` above idle: the
    last two as the descriptor has them.

    The price and the upkeep of its years fall on the hours in which it computes, as in E. Walker, "The Real Cost of a
    CPU Hour" (Computer 42(4), IEEE 2009), there with a discount for the years to come and here without::

        machine = (purchase / life + upkeep) / (8760 * utilisation)
        energy  = tariff / 1000 * (watts + idle_watts * (1 - utilisation) / utilisation)

    An hour of use so bears its share of the hours in which the machine waits, and draws ``idle_watts``.
    """
    use = cost.utilisation
    watts = measured_watts or cost.idle_watts + power_watts if cost.watts is None else cost.watts
    return RigRate(
        machine_usd=(cost.purchase_usd / cost.life_years + cost.upkeep_usd_per_year) / (HOURS_A_YEAR * use),
        energy_usd=cost.tariff_usd_per_kwh / 1000 * (watts + cost.idle_watts * (1 - use) / use),
    )
